package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kmsencrypted/kmsencrypted"
)

// settings are those of one service.
type settings struct {
	name                                                  string
	service, root, url                                    string
	bucket, region, endpoint, prefix, profile             string
	pathStyle                                             bool
	accessKeyID, secretAccessKey, sessionToken            string
	kmsKeyID, encryptionKey, encryptionKeyFile            string
	encryptionContext                                     map[string]string
	format, envelopeLocation, securityProfile             string
	serverSide, serverSideKey, cacheControl, storageClass string
}

// setting is where a value goes: a *string, a *bool or a *map[string]string, or the
// settings of a nested map.
type setting struct {
	to     func(*settings) any
	nested map[string]setting
	secret bool
}

func to[T any](field func(*settings) *T) setting {
	return setting{to: func(s *settings) any { return field(s) }}
}

func secret(field func(*settings) *string) setting {
	s := to(field)
	s.secret = true
	return s
}

// known are the settings by name.
var known = map[string]setting{
	"service":                to(func(s *settings) *string { return &s.service }),
	"root":                   to(func(s *settings) *string { return &s.root }),
	"url":                    to(func(s *settings) *string { return &s.url }),
	"bucket":                 to(func(s *settings) *string { return &s.bucket }),
	"region":                 to(func(s *settings) *string { return &s.region }),
	"endpoint":               to(func(s *settings) *string { return &s.endpoint }),
	"prefix":                 to(func(s *settings) *string { return &s.prefix }),
	"profile":                to(func(s *settings) *string { return &s.profile }),
	"force_path_style":       to(func(s *settings) *bool { return &s.pathStyle }),
	"access_key_id":          to(func(s *settings) *string { return &s.accessKeyID }),
	"secret_access_key":      secret(func(s *settings) *string { return &s.secretAccessKey }),
	"session_token":          secret(func(s *settings) *string { return &s.sessionToken }),
	"kms_key_id":             to(func(s *settings) *string { return &s.kmsKeyID }),
	"encryption_key":         secret(func(s *settings) *string { return &s.encryptionKey }),
	"encryption_key_file":    to(func(s *settings) *string { return &s.encryptionKeyFile }),
	"kms_encryption_context": to(func(s *settings) *map[string]string { return &s.encryptionContext }),
	"format":                 to(func(s *settings) *string { return &s.format }),
	"envelope_location":      to(func(s *settings) *string { return &s.envelopeLocation }),
	"security_profile":       to(func(s *settings) *string { return &s.securityProfile }),
	"upload": {nested: map[string]setting{
		"server_side_encryption": to(func(s *settings) *string { return &s.serverSide }),
		"ssekms_key_id":          to(func(s *settings) *string { return &s.serverSideKey }),
		"cache_control":          to(func(s *settings) *string { return &s.cacheControl }),
		"storage_class":          to(func(s *settings) *string { return &s.storageClass }),
	}},
}

// parse reads a configuration. Its errors name services, settings and lines, and never a
// value.
func parse(text []byte, o Options) ([]settings, error) {
	var document yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(text))
	if err := documents.Decode(&document); err != nil && err != io.EOF {
		return nil, configError("the configuration is no YAML")
	}
	if documents.Decode(new(yaml.Node)) != io.EOF {
		return nil, configError("the configuration has more than one YAML document")
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode || len(document.Content[0].Content) == 0 {
		return nil, configError("the configuration is no map of services")
	}
	var all []settings
	err := eachPair(document.Content[0], func(name string, value *yaml.Node) error {
		s := settings{name: name}
		if err := (reader{&s, o}).fill(name, known, value); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		kind, ok := kinds[s.service]
		if !ok {
			return fmt.Errorf("service %s: the kind %q is none of Disk, Memory, S3, URL, EncryptedS3, NativeS3 and NativeURL", name, s.service)
		}
		if err := eachPair(value, func(setting string, _ *yaml.Node) error { return kind.has(setting) }); err != nil {
			return fmt.Errorf("service %s of kind %s: %w", name, s.service, err)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		return nil, configError("%w", err)
	}
	return all, nil
}

// eachPair calls do for each entry of a map.
func eachPair(m *yaml.Node, do func(name string, value *yaml.Node) error) error {
	seen := make(map[string]bool)
	for i := 0; i < len(m.Content); i += 2 {
		name, value := m.Content[i], m.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Tag == "!!merge" || seen[name.Value] {
			return fmt.Errorf("line %d: a name that is no text or stands twice", name.Line)
		}
		seen[name.Value] = true
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if err := do(name.Value, value); err != nil {
			return err
		}
	}
	return nil
}

// reader reads the settings of a service.
type reader struct {
	into *settings
	o    Options
}

func (r reader) fill(where string, known map[string]setting, m *yaml.Node) error {
	if m.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s is no map", m.Line, where)
	}
	return eachPair(m, func(name string, value *yaml.Node) error {
		is, ok := known[name]
		switch {
		case !ok:
			return fmt.Errorf("line %d: unknown setting %s", value.Line, name)
		case is.nested != nil:
			return r.fill(name, is.nested, value)
		}
		if err := r.set(is, value); err != nil {
			return fmt.Errorf("line %d: setting %s: %w", value.Line, name, err)
		}
		return nil
	})
}

func (r reader) set(is setting, value *yaml.Node) error {
	switch to := is.to(r.into).(type) {
	case *map[string]string:
		if value.Kind != yaml.MappingNode {
			return errors.New("want a map of texts")
		}
		*to = make(map[string]string)
		return eachPair(value, func(name string, value *yaml.Node) (err error) {
			(*to)[name], err = r.text(is, value)
			return err
		})
	case *bool:
		text, err := r.text(is, value)
		if err != nil || text != "true" && text != "false" {
			return errors.Join(err, errors.New("want true or false"))
		}
		*to = text == "true"
	case *string:
		text, err := r.text(is, value)
		if err != nil || text == "" {
			return errors.Join(err, errors.New("want a text"))
		}
		*to = text
	}
	return nil
}

// reference is one to the environment.
var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// text returns a value with its references replaced.
func (r reader) text(is setting, value *yaml.Node) (string, error) {
	if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		return "", errors.New("it has no value")
	}
	if is.secret && r.o.Strict && reference.FindString(value.Value) != value.Value {
		return "", errors.New("a secret stands in the configuration: refer to the environment, as ${NAME}")
	}
	if strings.Contains(value.Value, "<%") {
		return "", errors.New("ERB is not evaluated here: refer to the environment, as ${NAME}")
	}
	var unset []string
	text := reference.ReplaceAllStringFunc(value.Value, func(found string) string {
		name := found[2 : len(found)-1]
		value, ok := r.o.lookup(name)
		if !ok {
			unset = append(unset, name)
		}
		return value
	})
	if unset != nil {
		return "", fmt.Errorf("the environment has no %s", strings.Join(unset, ", "))
	}
	return text, nil
}

func (o Options) lookup(name string) (string, bool) {
	if o.LookupEnv != nil {
		return o.LookupEnv(name)
	}
	return os.LookupEnv(name)
}

func configError(format string, args ...any) error {
	return fmt.Errorf("storage: %w: %w", kmsencrypted.ErrConfig, fmt.Errorf(format, args...))
}
