package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/joho/godotenv"
)

// environ is NAME=value as a map.
func environ(list []string) map[string]string {
	values := make(map[string]string, len(list))
	for _, s := range list {
		if name, value, ok := strings.Cut(s, "="); ok {
			values[name] = strings.TrimSpace(value)
		}
	}
	return values
}

// ReadDotEnv returns what a .env file sets, for whoever builds an environment of several sources.
func ReadDotEnv(path string) (map[string]string, error) {
	faults := new(Faults)
	values := readDotEnv(Options{DotEnv: path, RequireDotEnv: true}, faults)
	if len(*faults) > 0 {
		return nil, *faults
	}
	return values, nil
}

// readDotEnv reads o.DotEnv.
func readDotEnv(o Options, faults *Faults) map[string]string {
	if o.DotEnv == "" {
		return map[string]string{}
	}
	b, err := os.ReadFile(o.DotEnv)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !o.RequireDotEnv:
		return map[string]string{}
	case err != nil:
		faults.add(o.DotEnv, "cannot be read: "+cause(err), "name a file that can")
		return map[string]string{}
	}
	values, err := parseDotEnv(b)
	if err != nil {
		// The parser's own words quote the file, secrets and all.
		faults.add(o.DotEnv, fmt.Sprintf("is not understood in line %d", faultyLine(b)), "write NAME=value, and close what quotes open")
		return map[string]string{}
	}
	return readSecrets(values, faults)
}

// parseDotEnv takes a $ as it stands, as the guides' dotenv does: a password may hold one.
func parseDotEnv(b []byte) (map[string]string, error) {
	const dollar = "\x00" // in no environment
	values, err := godotenv.UnmarshalBytes(bytes.ReplaceAll(b, []byte("$"), []byte(dollar)))
	for name, value := range values {
		values[name] = strings.ReplaceAll(value, dollar, "$")
	}
	return values, err
}

// faultyLine is the number of the first line that nothing after it mends.
func faultyLine(b []byte) int {
	good, read := 0, 0
	for n := 1; read < len(b); n++ {
		if i := bytes.IndexByte(b[read:], '\n'); i >= 0 {
			read += i + 1
		} else {
			read = len(b)
		}
		if _, err := parseDotEnv(b[:read]); err == nil {
			good = n
		}
	}
	return good + 1
}

// readSecrets puts the content of the file that NAME_FILE names into NAME, for each NAME that is secret.
func readSecrets(values map[string]string, faults *Faults) map[string]string {
	secrets := []string{"DATABASE_DIRECT_URL"}
	for s := range new(Config).settings() {
		if _, ok := s.value.(Secret); ok {
			secrets = append(secrets, s.variable)
		}
	}
	for _, name := range secrets {
		path := values[name+"_FILE"]
		if path == "" {
			continue
		}
		if values[name] != "" {
			faults.add(name, "is set, and so is "+name+"_FILE", "unset one of them")
			continue
		}
		b, err := os.ReadFile(path)
		switch value := strings.TrimSpace(string(b)); {
		case err != nil:
			faults.add(name+"_FILE", fmt.Sprintf("names %s, which cannot be read: %s", path, cause(err)), "name a file that holds the secret alone")
		case value == "":
			faults.add(name+"_FILE", fmt.Sprintf("names %s, which is empty", path), "name a file that holds the secret alone")
		default:
			values[name] = value
		}
	}
	return values
}

// cause is an error of the file system without the operation and the path.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}
