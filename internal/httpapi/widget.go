package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

// maxWidgetValue bounds a parameter that is signed for the Upload Widget, in bytes.
const maxWidgetValue = 4 << 10

// widgetParams are the parameters that a browser may have signed, each with what its value has to be. They
// label an asset or name the file; what costs money, calls elsewhere, replaces other assets or hides this
// one is not among them. Their list is Cloudinary's "Upload API reference", optional parameters.
var widgetParams = map[string]func(value string) string{
	"timestamp":          freshTimestamp,
	"source":             anything,
	"tags":               anything,
	"context":            anything,
	"folder":             anything, // and no folder of ours
	"asset_folder":       anything,
	"filename_override":  anything,
	"allowed_formats":    anything,
	"custom_coordinates": anything,
	"use_filename":       oneOf("true", "1", "false", "0"),
	"unique_filename":    oneOf("true", "1"),  // else two files of one name would be one asset
	"overwrite":          oneOf("false", "0"), // signed is "true" where it is not said
	"type":               anything,            // and how files are delivered here
	"public_id":          anything,            // and reserved by the caller
}

func anything(string) string { return "" }

func oneOf(allowed ...string) func(string) string {
	return func(value string) string {
		if slices.Contains(allowed, value) {
			return ""
		}
		return "must be " + strings.Join(allowed, " or ")
	}
}

// freshTimestamp refuses a signature for an hour that is over, and one for an hour yet to come.
func freshTimestamp(value string) string {
	const ahead = 5 * time.Minute
	n, err := strconv.ParseInt(value, 10, 64)
	if age := time.Since(time.Unix(n, 0)); err != nil || age > upload.SignatureLife || age < -ahead {
		return "must be the time now, in seconds since 1970"
	}
	return ""
}

// signForWidget signs the parameters that Cloudinary's Upload Widget is about to send.
func (a *API) signForWidget(c *fiber.Ctx) error {
	account, err := directAccount(a, a.Direct.Cloudinary, "Cloudinary")
	if err != nil {
		return err
	}
	var asked struct {
		Params map[string]json.RawMessage `json:"paramsToSign"`
	}
	if err := a.readJSON(c, &asked); err != nil {
		return err
	}
	params := url.Values{}
	for _, name := range sortedNames(asked.Params) {
		value, err := widgetValue(name, asked.Params[name])
		if err != nil {
			return err
		}
		params.Set(name, value)
	}
	if params.Get("timestamp") == "" {
		return invalidParameter("paramsToSign.timestamp is missing; it is the time now, in seconds since 1970.")
	}
	if fault := account.typeFault(params); fault != "" {
		return invalidParameter("paramsToSign.type %s.", fault)
	}
	if err := a.checkWidgetNames(c, params); err != nil {
		return err
	}
	signature, err := account.sign(params)
	if err != nil {
		return err
	}
	return answerOnce(c, struct {
		Signature string `json:"signature"`
	}{signature})
}

// typeFault is what is wrong with the delivery type in parameters: an asset that is to open only to signed
// links has to be sent as one, and no other is made of what is public.
func (a CloudinaryAccount) typeFault(params url.Values) string {
	said := params.Get("type")
	switch {
	case a.Type == "" && params.Has("type") && said != "upload":
		return "must be upload"
	case a.Type != "" && said != a.Type:
		return "must be there and " + a.Type + ", for files open only to signed links here (DELIVERY=signed)"
	}
	return ""
}

func sortedNames(params map[string]json.RawMessage) []string {
	var names []string
	for name := range params {
		names = append(names, name)
	}
	slices.Sort(names) // the first that is refused is always the same
	return names
}

// widgetValue is a parameter as it is signed, or why it is not.
func widgetValue(name string, raw json.RawMessage) (string, error) {
	check, ok := widgetParams[name]
	if !ok {
		return "", invalidParameter("paramsToSign.%.60s is not signed here. Allowed are %s.", name, strings.Join(allowedNames(), ", "))
	}
	value, ok := signedText(raw)
	switch {
	case !ok:
		return "", invalidParameter("paramsToSign.%s must be a text, a number or a list of texts.", name)
	case len(value) > maxWidgetValue, !utf8.ValidString(value), strings.ContainsFunc(value, unicode.IsControl):
		return "", invalidParameter("paramsToSign.%s must be at most %d bytes of text in one line.", name, maxWidgetValue)
	}
	if fault := check(value); fault != "" {
		return "", invalidParameter("paramsToSign.%s %s.", name, fault)
	}
	return value, nil
}

func allowedNames() []string {
	var names []string
	for name := range widgetParams {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// signedText is a value as Cloudinary's own libraries sign it: lists joined with commas.
func signedText(raw json.RawMessage) (string, bool) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return "", false
	}
	switch v := v.(type) {
	case string, json.Number, bool:
		return fmt.Sprint(v), true
	case []any:
		var items []string
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return "", false
			}
			items = append(items, text)
		}
		return strings.Join(items, ","), true
	}
	return "", false
}

// checkWidgetNames sees to it that what is signed can take no other name than the caller's own, and
// writes down that they get a signature.
func (a *API) checkWidgetNames(c *fiber.Ctx, params url.Values) error {
	publicID := params.Get("public_id")
	if publicID == "" {
		if top, _, _ := strings.Cut(strings.Trim(params.Get("folder"), "/ "), "/"); top == a.Direct.Claims.Installation {
			return invalidParameter("paramsToSign.folder is where reserved uploads go; choose another.")
		}
		return a.handOut(c, cloudinaryName)
	}
	for _, name := range []string{"folder", "use_filename"} {
		if params.Has(name) {
			return invalidParameter("paramsToSign.%s would change the public_id that is signed with it; leave it out.", name)
		}
	}
	if !params.Has("overwrite") { // what is there is false
		return invalidParameter("paramsToSign.overwrite must be there and false beside a public_id, so that what has been saved cannot be replaced.")
	}
	ctx, cancel := context.WithTimeout(a.server.cutting, queryTime)
	defer cancel()
	may, err := a.Direct.Claims.MayName(ctx, user(c), cloudinaryName, publicID)
	if err != nil {
		return databaseError(err, noUpload)
	}
	if !may {
		return invalidParameter("paramsToSign.public_id must be one that you have reserved with GET /generate-signature?reserve=1, and not used yet.")
	}
	return nil
}
