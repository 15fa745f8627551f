package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"slipway/internal/auth"
	"slipway/internal/config"
	"slipway/internal/postgres"
	"slipway/internal/process"
)

func keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "key",
		GroupID: "run",
		Short:   "Make, list and revoke the API keys of servers",
		Long: "API keys let your own servers ask for their users. They are kept in the database that DATABASE_URL or ./.env names, or else in that\n" +
			"of a `slipway dev` in this folder.",
	}
	c.AddCommand(keyCreateCommand(), keyListCommand(), keyRevokeCommand())
	return c
}

// apiKey is a key as JSON. Key is the whole of it, which only its maker is told.
type apiKey struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Prefix     string     `json:"prefix"`
	Scopes     []string   `json:"scopes"`
	State      string     `json:"state"` // active, expired or revoked
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
	Key        string     `json:"key,omitempty"`
}

func viewKey(k postgres.APIKey) apiKey {
	v := apiKey{
		ID: k.ID, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, State: "active",
		CreatedAt: k.CreatedAt, LastUsedAt: k.LastUsedAt, ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt,
	}
	switch {
	case k.RevokedAt != nil:
		v.State = "revoked"
	case k.ExpiresAt != nil && !k.ExpiresAt.After(time.Now()):
		v.State = "expired"
	}
	return v
}

const (
	maxKeyName = 100
	maxKeyDays = 3650
)

func keyCreateCommand() *cobra.Command {
	var scopes []string
	var days int
	var asJSON bool
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a key, and show it once",
		Long: "Makes a key and prints it. It is shown this once; only its hash is kept.\n" +
			"A key with the scope act may do for any user what they may, and make upload tokens (POST /v1/tokens). One with the scope\n" +
			"admin may read what is anybody's, change nothing of it, and open the admin pages (ADMIN_PORT).",
		Example: "  slipway key create backend\n  slipway key create support --scope admin --days 30",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := strings.TrimSpace(args[0])
			if name == "" || len(name) > maxKeyName || printable(name) != name {
				return misused("a key's name has 1 to %d bytes of text", maxKeyName)
			}
			for _, s := range scopes {
				if !slices.Contains(auth.Scopes, s) {
					return misused("there is no scope %q; there are %s", s, strings.Join(auth.Scopes, " and "))
				}
			}
			if len(scopes) == 0 || days < 0 || days > maxKeyDays {
				return misused("give a scope, and --days from 0, which is for ever, to %d", maxKeyDays)
			}
			return withDatabase(cmd, func(db postgres.DB) error {
				slices.Sort(scopes)
				secret, key := auth.NewKey(name, slices.Compact(scopes))
				key, err := postgres.InsertKey(cmd.Context(), db, key, time.Duration(days)*24*time.Hour)
				if err != nil {
					return err
				}
				if asJSON {
					v := viewKey(key)
					v.Key = secret
					return printJSON(cmd.OutOrStdout(), v)
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "The key %q (%s). It is shown only now; keep it where your server keeps its secrets.\n", name, strings.Join(key.Scopes, ", "))
				_, err = fmt.Fprintln(cmd.OutOrStdout(), secret)
				return err
			})
		},
	}
	f := c.Flags()
	f.StringSliceVar(&scopes, "scope", []string{auth.ActScope}, "what it is for: act, admin; may be repeated")
	f.IntVar(&days, "days", 0, "how long it is good (default: until it is revoked)")
	f.BoolVar(&asJSON, "json", false, "print a JSON object, with the key in it")
	complete(c, "scope", auth.Scopes...)
	return c
}

func keyListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the keys, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDatabase(cmd, func(db postgres.DB) error {
				keys, err := postgres.Keys(cmd.Context(), db)
				if err != nil {
					return err
				}
				if !asJSON {
					return tabulateKeys(cmd.OutOrStdout(), keys)
				}
				for _, k := range keys {
					if err := printJSON(cmd.OutOrStdout(), viewKey(k)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each key")
	return c
}

func tabulateKeys(out io.Writer, keys []postgres.APIKey) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PREFIX\tSTATE\tSCOPES\tCREATED\tLAST USED\tEXPIRES\tNAME")
	when := func(t *time.Time) string {
		if t == nil {
			return "never"
		}
		return humanize.Time(*t)
	}
	for _, k := range keys {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Prefix, viewKey(k).State, strings.Join(k.Scopes, ","),
			humanize.Time(k.CreatedAt), when(k.LastUsedAt), when(k.ExpiresAt), printable(k.Name))
	}
	return w.Flush()
}

func keyRevokeCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "revoke PREFIX|ID",
		Short:   "Make a key worthless, and the upload tokens that were made with it",
		Example: "  slipway key revoke slk_jaxh4f2k",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDatabase(cmd, func(db postgres.DB) error {
				key, err := postgres.RevokeKey(cmd.Context(), db, args[0])
				if errors.Is(err, postgres.ErrNoKey) {
					return errors.New("there is no key with this prefix or id; `slipway key list` shows them")
				}
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), viewKey(key))
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s (%s) is revoked; within seconds nobody takes it any more.\n", key.Prefix, printable(key.Name))
				return err
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

// withDatabase opens the database of the settings, or of a development stack in this folder.
func withDatabase(cmd *cobra.Command, use func(postgres.DB) error) error {
	c, err := settingsHere(config.NeedDatabase)
	if err != nil {
		return err
	}
	pool, err := postgres.Open(cmd.Context(), postgres.Options{URL: c.Database.DirectURL.Reveal(), MaxConns: 2, Names: process.Names(c), AppName: "slipway-key"})
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(cmd.Context(), pool, process.Names(c)); err != nil {
		return err
	}
	return use(pool)
}
