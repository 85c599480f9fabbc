package kmsencrypted_test

import (
	"bytes"
	"database/sql"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/attrencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	objects "github.com/kmsencrypted/kmsencrypted/files/lockbox"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/vectors"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
)

const (
	secretText = "ada-lovelace@example.org"
	secretKey  = "32 bytes of a key, to be found.."
)

// secretTypes is every type of the module that holds a secret, with what it must
// never print. TestSecretTypesAreListed finds those that are missing here.
func secretTypes(t *testing.T) map[string]specimen {
	t.Helper()
	k := kmsencrypted.NewDataKey()
	raw, err := k.Raw()
	if err != nil {
		t.Fatal(err)
	}
	p, err := local.Create(t.TempDir() + "/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	box, err := kmsencrypted.NewBox(p)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		ID  int              `db:"id"`
		Key field.Key        `db:"key"`
		V   field.Of[string] `db:"v"`
	}
	m, err := field.NewModel[row](box, field.Config{Table: "t"})
	if err != nil {
		t.Fatal(err)
	}
	sealed := row{ID: 1, V: field.New(secretText)}
	if err := m.Seal(t.Context(), &sealed); err != nil {
		t.Fatal(err)
	}
	master, err := lockbox.NewMasterKey([]byte(secretKey))
	if err != nil {
		t.Fatal(err)
	}
	lockboxBox, err := lockbox.New([]byte(secretKey), lockbox.Options{Algorithm: lockbox.XChaCha20})
	if err != nil {
		t.Fatal(err)
	}
	attribute, err := attrencrypted.New([]byte(secretKey), attrencrypted.Options{Mode: attrencrypted.PerAttributeIVAndSalt})
	if err != nil {
		t.Fatal(err)
	}
	fileKey, err := files.KeyFrom([]byte(secretKey))
	if err != nil {
		t.Fatal(err)
	}
	index, err := blindindex.New([]byte(secretKey), "email_bidx", blindindex.Options{})
	if err != nil {
		t.Fatal(err)
	}
	indexMaster, err := blindindex.NewMasterKey([]byte(secretKey))
	if err != nil {
		t.Fatal(err)
	}
	links, err := serve.NewLinks([]byte(secretKey))
	if err != nil {
		t.Fatal(err)
	}
	codec, err := objects.New([]byte(secretKey), objects.Options{Algorithm: lockbox.XChaCha20})
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := files.NewPartSealer(fileKey)
	if err != nil {
		t.Fatal(err)
	}
	objectKey, err := sealer.ObjectKey(fileKey)
	if err != nil {
		t.Fatal(err)
	}
	_, rawObject, _ := objectKey.Raw()
	wrapper, err := files.NewWrapper(k)
	if err != nil {
		t.Fatal(err)
	}
	rails, err := activerecord.New(activerecord.Config{PrimaryKeys: activerecord.Passwords(secretText), Salt: "salt"})
	if err != nil {
		t.Fatal(err)
	}
	railsAttribute, err := rails.Attribute(activerecord.Scheme{Keys: []activerecord.Key{activerecord.RawKey([]byte(secretKey))}})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := audit.NewLedger(new(sql.DB), field.SQLite, []byte(secretKey), audit.Limit{})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]specimen{
		"audit.Ledger":            newSpecimen(*ledger, secretKey),
		"activerecord.Key":        newSpecimen(activerecord.Password(secretText), secretText),
		"activerecord.Text":       newSpecimen(activerecord.UTF8(secretText), secretText),
		"activerecord.Encryption": newSpecimen(*rails, secretText),
		"activerecord.Attribute":  newSpecimen(*railsAttribute, secretKey),
		"files.Wrapper":           newSpecimen(*wrapper, string(raw)),
		"blindindex.Index":        newSpecimen(*index, secretKey),
		"blindindex.MasterKey":    newSpecimen(indexMaster, secretKey),
		"blindindex.Plaintext":    newSpecimen(blindindex.Text(secretText), secretText),
		"serve.Links":             newSpecimen(*links, secretKey),
		"files.Key":               newSpecimen(fileKey, secretKey),
		"files.ObjectKey":         newSpecimen(objectKey, string(rawObject)),
		"lockbox.Codec":           newSpecimen(*codec, secretKey), // of files/lockbox
		"lockbox.MasterKey":       newSpecimen(master, secretKey),
		"lockbox.Box":             newSpecimen(*lockboxBox, secretKey),
		"attrencrypted.Attribute": newSpecimen(*attribute, secretKey),
		"kmsencrypted.Plain":      newSpecimen(kmsencrypted.NewPlain([]byte(secretText), kmsencrypted.BoundContext{}), secretText),
		"kmsencrypted.DataKey":    newSpecimen(k, string(raw), hex.EncodeToString(raw)),
		"field.Of":                newSpecimen(field.New(secretText), secretText),
		"field.Key":               newSpecimen(sealed.Key, "never printed as it is not known here"),
		"local.Provider":          newSpecimen(*p, "never printed as it is not known here"),
	}
}

// specimen is a value in all the places where a program may have it.
type specimen struct {
	values  map[string]any
	secrets []string
}

// hidden holds a value where fmt cannot call its methods.
type hidden[T any] struct {
	name  string
	value T
}

func newSpecimen[T any](v T, secrets ...string) specimen {
	return specimen{secrets: secrets, values: map[string]any{
		"itself":                    v,
		"pointer":                   &v,
		"pointer to pointer":        new(&v),
		"slice":                     []T{v},
		"slice of pointers":         []*T{&v},
		"map":                       map[string]T{"k": v},
		"exported field":            struct{ V T }{v},
		"unexported field":          hidden[T]{"n", v},
		"pointer, unexported field": &hidden[T]{"n", v},
		"slice in unexported field": hidden[[]T]{"n", []T{v}},
		"map in unexported field":   hidden[map[string]T]{"n", map[string]T{"k": v}},
		"pointer in unexported":     hidden[*T]{"n", &v},
		"interface in unexported":   hidden[any]{"n", v},
		"unexported in unexported":  hidden[hidden[T]]{"n", hidden[T]{"m", v}},
		"wrapped error":             fmt.Errorf("saving: %w", fmt.Errorf("record %v %+v", v, &v)),
		"array":                     [1]T{v},
	}}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	for name, s := range secretTypes(t) {
		for place, v := range s.values {
			for how, printed := range printings(v) {
				for _, secret := range append(s.secrets, decimalBytes(s.secrets[0])) {
					if strings.Contains(printed, secret) {
						t.Errorf("%s as %s, %s: %q holds the secret", name, place, how, printed)
					}
				}
			}
		}
		if got := fmt.Sprint(s.values["itself"]); got != "[redacted]" {
			t.Errorf("%s prints as %q, want [redacted]", name, got)
		}
	}
}

// decimalBytes is how fmt prints bytes that nobody protects.
func decimalBytes(secret string) string {
	return strings.Trim(fmt.Sprint([]byte(secret)), "[]")
}

// printings are all the ways in which a program may print a value by mistake.
func printings(v any) map[string]string {
	out := make(map[string]string)
	for _, verb := range strings.Split("%v %+v %#v %s %q %x %X %d %t %c %b %o %e %g %T %U", " ") {
		out[verb] = fmt.Sprintf(verb, v)
	}
	var buf bytes.Buffer
	for name, handler := range map[string]slog.Handler{"slog text": slog.NewTextHandler(&buf, nil), "slog JSON": slog.NewJSONHandler(&buf, nil)} {
		buf.Reset()
		slog.New(handler).Info("m", "v", v, slog.Group("g", slog.Any("v", v)))
		out[name] = buf.String()
	}
	encoded, _ := json.Marshal(v) // a function or channel may refuse; what matters is what comes out
	out["JSON"] = string(encoded)
	buf.Reset()
	_ = gob.NewEncoder(&buf).Encode(v)
	out["gob"] = buf.String()
	out["error"] = fmt.Errorf("%v: %+v", v, v).Error()
	return out
}

func TestSecretsCannotBeDecoded(t *testing.T) {
	var f field.Of[string]
	if err := json.Unmarshal([]byte(`"[redacted]"`), &f); err == nil {
		t.Error("a redacted field was decoded, which would replace the secret by that word")
	}
}

// barelyHeld are the exported structs that hold secret bytes as they are, because
// they pass through.
var barelyHeld = map[string]string{
	"files.Reader": "a window of a stream, which nobody holds by value",
}

// A type that embeds redacted holds a secret, and must stand in the table above.
// A struct that holds a secret.Pointer must embed it, and an exported struct may
// not hold bytes with the name of a secret otherwise.
func TestSecretTypesAreListed(t *testing.T) {
	listed := secretTypes(t)
	found := make(map[string]bool)
	structs(t, func(name string, exported bool, fields []*ast.Field) {
		redacted := slices.ContainsFunc(fields, embedsRedacted)
		_, known := barelyHeld[name]
		if _, ok := listed[name]; redacted && exported && !ok && !known {
			t.Errorf("%s embeds redacted and is not in secretTypes", name)
		}
		if !redacted && slices.ContainsFunc(fields, holdsPointer) {
			t.Errorf("%s holds a secret and does not embed redacted", name)
		}
		if bare := exported && slices.ContainsFunc(fields, holdsSecretBytes); bare != known {
			t.Errorf("%s holds secret bytes as they are: %v, in barelyHeld: %v", name, bare, known)
		}
		found[name] = true
	})
	for name := range listed {
		if !found[name] {
			t.Errorf("there is no struct %s", name)
		}
	}
}

// structs calls visit for every struct type of the module, but for what only its
// tests use.
func structs(t *testing.T, visit func(name string, exported bool, fields []*ast.Field)) {
	t.Helper()
	err := filepath.WalkDir(vectors.Root(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"e2e", "bench", "internal", "testdata", "examples"}, d.Name())) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					visit(file.Name.Name+"."+spec.Name.Name, spec.Name.IsExported(), s.Fields.List)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// holdsPointer recognises a field of type secret.Pointer.
func holdsPointer(f *ast.Field) bool {
	generic, ok := f.Type.(*ast.IndexExpr)
	if !ok {
		return false
	}
	selector, ok := generic.X.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "Pointer" && fmt.Sprint(selector.X) == "secret"
}

var secretName = regexp.MustCompile(`(?i)key|secret|plain|token|passw|private`)

// holdsSecretBytes recognises a slice or array of bytes with the name of a secret.
func holdsSecretBytes(f *ast.Field) bool {
	bytes, ok := f.Type.(*ast.ArrayType)
	if !ok || fmt.Sprint(bytes.Elt) != "byte" {
		return false
	}
	return slices.ContainsFunc(f.Names, func(name *ast.Ident) bool { return secretName.MatchString(name.Name) })
}

func embedsRedacted(f *ast.Field) bool {
	if len(f.Names) > 0 {
		return false
	}
	switch e := f.Type.(type) {
	case *ast.Ident:
		return e.Name == "redacted"
	case *ast.SelectorExpr:
		return e.Sel.Name == "Redacted"
	}
	return false
}
