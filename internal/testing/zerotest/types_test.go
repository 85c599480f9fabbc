package zerotest_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/attrencrypted"
	"github.com/kmsencrypted/kmsencrypted/audit"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	kment "github.com/kmsencrypted/kmsencrypted/ent"
	kmsentc "github.com/kmsencrypted/kmsencrypted/ent/entc"
	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/files"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/direct"
	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	fileslockbox "github.com/kmsencrypted/kmsencrypted/files/lockbox"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec"
	"github.com/kmsencrypted/kmsencrypted/files/s3ec/s3client"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
	"github.com/kmsencrypted/kmsencrypted/files/storage"
	kmsgorm "github.com/kmsencrypted/kmsencrypted/gorm"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/lockbox/rubyyaml"
	kmspgx "github.com/kmsencrypted/kmsencrypted/pgx"
	"github.com/kmsencrypted/kmsencrypted/providers/aws"
	"github.com/kmsencrypted/kmsencrypted/providers/azure"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
	"github.com/kmsencrypted/kmsencrypted/providers/gcp"
	"github.com/kmsencrypted/kmsencrypted/providers/guard"
	"github.com/kmsencrypted/kmsencrypted/providers/local"
	"github.com/kmsencrypted/kmsencrypted/providers/multi"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
	"github.com/kmsencrypted/kmsencrypted/providers/vault"
	kmsriver "github.com/kmsencrypted/kmsencrypted/river"
	"github.com/kmsencrypted/kmsencrypted/rotatecli"
	"github.com/kmsencrypted/kmsencrypted/rotation"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

type row struct {
	ID    int64            `db:"id"`
	Key   field.Key        `db:"encrypted_kms_key"`
	Email field.Of[string] `db:"email_ciphertext"`
}

// made are the types that a constructor sets up. A zero one and a nil pointer to one
// refuse every operation.
var made = []struct {
	zero, null any
	skip       []string // methods that need not refuse
}{
	{new(kmsencrypted.Box), (*kmsencrypted.Box)(nil), nil},
	{new(activerecord.Attribute), (*activerecord.Attribute)(nil), nil},
	{new(activerecord.Encryption), (*activerecord.Encryption)(nil), nil},
	{new(attrencrypted.Attribute), (*attrencrypted.Attribute)(nil), nil},
	{new(audit.Ledger), (*audit.Ledger)(nil), nil},
	{new(blindindex.Index), (*blindindex.Index)(nil), nil},
	{new(blindindex.PrefixIndex), (*blindindex.PrefixIndex)(nil), nil},
	{new(blindindex.Rotation), (*blindindex.Rotation)(nil), nil},
	{new(field.Model[row]), (*field.Model[row])(nil), nil},
	{new(field.Model[row]).Adapter(), field.Adapter[row]{}, nil},
	{new(files.Reader), (*files.Reader)(nil), nil},
	{new(files.ReaderAt), (*files.ReaderAt)(nil), nil},
	{new(files.PartSealer), (*files.PartSealer)(nil), nil},
	{new(files.Wrapper), (*files.Wrapper)(nil), nil},
	{new(files.Writer), (*files.Writer)(nil), nil},
	{new(attach.Dir), (*attach.Dir)(nil), nil},
	{new(attach.File), (*attach.File)(nil), nil},
	{new(attach.Manager[row]), (*attach.Manager[row])(nil), nil},
	{new(attach.Recoverable), (*attach.Recoverable)(nil), []string{"Close"}},
	{new(attach.Pending[row]), (*attach.Pending[row])(nil), nil},
	{new(attach.Rails[row]), (*attach.Rails[row])(nil), nil},
	{new(attach.RailsPending[row]), (*attach.RailsPending[row])(nil), nil},
	{new(gocloud.Bucket), (*gocloud.Bucket)(nil), nil},
	{new(gocloud.File), (*gocloud.File)(nil), nil},
	{new(fileslockbox.Codec), (*fileslockbox.Codec)(nil), nil},
	{new(s3ec.Client), (*s3ec.Client)(nil), nil},
	{new(s3ec.Reader), (*s3ec.Reader)(nil), nil},
	{new(s3client.Store), (*s3client.Store)(nil), nil},
	{new(fileslockbox.ReaderAt), (*fileslockbox.ReaderAt)(nil), nil},
	{new(direct.Uploads[row]), (*direct.Uploads[row])(nil), []string{"ServeHTTP"}}, // answers 500
	{new(serve.Links), (*serve.Links)(nil), nil},
	{new(storage.Service), (*storage.Service)(nil), []string{"Name", "Encrypts", "Bucket"}},
	{new(storage.Services), (*storage.Services)(nil), []string{"Names", "Buckets", "Close"}},
	{new(kment.Driver), (*kment.Driver)(nil), nil},
	{new(kmsgorm.Plugin), (*kmsgorm.Plugin)(nil), nil},
	{new(lockbox.Box), (*lockbox.Box)(nil), nil},
	{new(aws.Provider), (*aws.Provider)(nil), nil},
	{new(azure.Provider), (*azure.Provider)(nil), nil},
	{new(branch.Provider), (*branch.Provider)(nil), nil},
	{new(gcp.Provider), (*gcp.Provider)(nil), []string{"Close"}},
	{new(local.Provider), (*local.Provider)(nil), nil},
	{new(multi.Provider), (*multi.Provider)(nil), nil},
	{new(vault.Provider), (*vault.Provider)(nil), nil},
	{new(kmsriver.Worker), (*kmsriver.Worker)(nil), []string{"Hooks", "Middleware"}}, // River's own,
	{new(rotation.RateLimiter), (*rotation.RateLimiter)(nil), []string{"SetRate"}},   // panics for a rate of 0, and says so,
	{new(rotation.Rotator), (*rotation.Rotator)(nil), nil},
	{new(sqlstore.Limiter), (*sqlstore.Limiter)(nil), nil},
	{new(sqlstore.Store[row]), (*sqlstore.Store[row])(nil), nil},
}

// values are the types whose zero value means something, or is an error of its own
// kind. None of their methods panics.
var values = []any{
	kmsencrypted.BoundContext{}, kmsencrypted.Config{}, kmsencrypted.DataKey{}, kmsencrypted.Error{},
	kmsencrypted.Format(0), kmsencrypted.Observer(nil), kmsencrypted.Place{}, kmsencrypted.Plain{},
	activerecord.Key{}, activerecord.Text{}, activerecord.Type{},
	audit.Receipt{}, blindindex.Argon2i{}, blindindex.Argon2id{}, blindindex.Column{}, blindindex.HMAC{}, blindindex.Lookup{},
	blindindex.MasterKey{}, blindindex.PBKDF2{}, blindindex.Plaintext{}, blindindex.Plan{}, blindindex.Scrypt{},
	field.Assignment{}, field.Failures(nil), field.Index{}, field.Key{}, field.Lookup{}, field.Of[string]{}, field.Part{}, field.Type{},
	files.ID{}, files.Key{}, files.ObjectKey{}, s3ec.Format(0), attach.Blob{}, attach.Memory{}, attach.PartUpload{}, attach.Recovery{}, kmstest.Fault{}, kmstest.Service{},
	lockbox.Column{}, lockbox.Decimal(""), lockbox.MasterKey{}, lockbox.Type{}, rubyyaml.Codec{}, rubyyaml.Date{},
	guard.BusyError{}, guard.OpenError{}, testkey.Provider{}, branch.ID{}, branch.Name{}, kment.Annotation{}, kment.Field{}, kment.Update[row]{}, kmsentc.Extension{}, kmspgx.Batch{}, kmsriver.Job{},
	rotatecli.Inspection{}, rotatecli.Program{}, rotatecli.Session{}, rotation.Kind(""), rotation.Retirement{}, rotation.RunState(""), rotation.Status{}, rotation.Verification{}, rotation.VersionCount{},
}

// mayPanic are methods of values that need an argument, or say that they panic.
var mayPanic = map[string][]string{
	nameOf(kmsencrypted.Observer(nil)): {"Observe"}, // calls its argument
	nameOf(attach.Memory{}):            {"Change"},  // calls its argument
	nameOf(kmstest.Service{}):          {"Box"},     // ends the test that is its argument
	nameOf(field.Of[string]{}):         {"Must"},
	nameOf(rotatecli.Program{}):        {"Run"}, // is the command itself
}

// What nobody set up returns an error instead of a panic.
func TestMade(t *testing.T) {
	t.Parallel()
	for _, one := range made {
		zerotest.Methods(t, one.zero, one.skip...)
		zerotest.Methods(t, one.null, one.skip...)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, v := range values {
		zerotest.NoPanic(t, reflect.New(reflect.TypeOf(v)).Interface(), mayPanic[nameOf(v)]...)
	}
}

const module = "github.com/kmsencrypted/kmsencrypted"

// Every exported type with exported methods is in one of the lists.
func TestEveryType(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, one := range made {
		known[nameOf(one.zero)] = true
	}
	for _, v := range values {
		known[nameOf(v)] = true
	}
	found := exportedTypes(t, "../../..")
	for _, name := range found {
		if !known[name] {
			t.Errorf("%s is neither in made nor in values", name)
		}
	}
	if len(found) < 80 {
		t.Errorf("found %d types, want at least 80: %q", len(found), found)
	}
}

func nameOf(v any) string {
	kind := reflect.TypeOf(v)
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	name, _, _ := strings.Cut(kind.Name(), "[")
	return kind.PkgPath() + "." + name
}

// exportedTypes returns the exported types of the module that have exported methods.
func exportedTypes(t *testing.T, root string) (names []string) {
	t.Helper()
	skipped := []string{"internal", "testdata", "examples", "e2e", "tools", "cmd", "bench", "docs"}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains(skipped, d.Name())):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		// Without cgo there are fewer types.
		if built, err := build.Default.MatchFile(filepath.Dir(file), d.Name()); !built {
			return err
		}
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		for _, declared := range source.Decls {
			if name := receiver(declared); ast.IsExported(name) {
				names = append(names, path.Join(module, filepath.ToSlash(folder))+"."+name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// receiver returns the type that an exported method belongs to.
func receiver(declared ast.Decl) string {
	method, ok := declared.(*ast.FuncDecl)
	if !ok || method.Recv == nil || !method.Name.IsExported() {
		return ""
	}
	kind := method.Recv.List[0].Type
	if pointer, ok := kind.(*ast.StarExpr); ok {
		kind = pointer.X
	}
	switch generic := kind.(type) {
	case *ast.IndexExpr:
		kind = generic.X
	case *ast.IndexListExpr:
		kind = generic.X
	}
	return kind.(*ast.Ident).Name
}
