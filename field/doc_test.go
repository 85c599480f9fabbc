package field

import (
	"errors"
	"go/parser"
	gotoken "go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/activerecord"
	"github.com/kmsencrypted/kmsencrypted/blindindex"
	"github.com/kmsencrypted/kmsencrypted/lockbox"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// packageComment returns the text of the package comment, in doc.go.
func packageComment(t *testing.T) string {
	t.Helper()
	file, err := parser.ParseFile(gotoken.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	return file.Doc.Text()
}

// optionRow is a row of the table of tag options.
type optionRow struct {
	option, example string
	on              []string
}

// optionTable reads the table of tag options, whose columns begin where those of
// its header do.
func optionTable(t *testing.T) (rows []optionRow) {
	t.Helper()
	var starts []int
	for line := range strings.Lines(packageComment(t)) {
		line, isTable := strings.CutPrefix(strings.TrimRight(line, "\n"), "\t")
		switch {
		case isTable && strings.HasPrefix(line, "option "):
			starts = []int{0}
			for _, name := range []string{" on ", " meaning ", " without it ", " example"} {
				starts = append(starts, strings.Index(line, name)+1)
			}
		case starts == nil:
		case !isTable:
			return rows
		case line[0] != ' ': // else the row above goes on
			cells := make([]string, len(starts))
			for i, start := range starts {
				end := len(line)
				if i+1 < len(starts) {
					end = starts[i+1]
				}
				cells[i] = strings.TrimSpace(line[start:end])
				if cells[i] == "" || start > 0 && line[start-1] != ' ' {
					t.Fatalf("doc.go: column %d of %q is empty or out of line", i, line)
				}
			}
			rows = append(rows, optionRow{option: cells[0], on: strings.Fields(cells[1]), example: cells[4]})
		}
	}
	t.Fatal("doc.go has no table of tag options")
	return nil
}

func TestTagOptionsAreDocumented(t *testing.T) {
	t.Parallel()
	documented := make(map[string]bool)
	for _, row := range optionTable(t) {
		documented[row.option] = true
		if _, ok := knownOptions[row.option]; !ok {
			t.Errorf("doc.go has the option %s, knownOptions has not", row.option)
		}
	}
	for name := range knownOptions {
		if !documented[name] {
			t.Errorf("knownOptions has the option %s, doc.go has not", name)
		}
	}
}

// fieldTypes are the types that the table names in its column "on".
var fieldTypes = map[string]reflect.Type{
	"plain": reflect.TypeFor[string](),
	"Key":   keyType,
	"Of":    reflect.TypeFor[Of[string]](),
	"Part":  partType,
	"Index": indexType,
}

// tagged makes a model of a struct that has all that the examples of the table
// name, and a field of a type with a tag.
func tagged(t *testing.T, kind, tag string) error {
	t.Helper()
	f := func(name string, typ reflect.Type, tag string) reflect.StructField {
		return reflect.StructField{Name: name, Type: typ, Tag: reflect.StructTag(tag)}
	}
	text, encrypted := fieldTypes["plain"], fieldTypes["Of"]
	fields := []reflect.StructField{
		f("ID", reflect.TypeFor[int64](), `db:"id"`),
		f("Name", text, `db:"name"`),
		f("Old", text, `db:"old"`),
		f("Key", keyType, `db:"encrypted_kms_key"`),
		f("Email", encrypted, `db:"email_ciphertext"`),
		f("Rails", encrypted, `db:"rails" kms:"activerecord"`),
		f("SSN", encrypted, `db:"encrypted_ssn" kms:"attr_encrypted"`),
		f("Tested", fieldTypes[kind], `db:"tested" kms:"`+tag+`"`),
	}
	if kind != "Part" {
		fields = append(fields, f("SSNIV", partType, `db:"encrypted_ssn_iv"`))
	}
	if kind != "Key" {
		fields = append(fields, f("PhoneKey", keyType, `db:"encrypted_kms_key_phone" kms:"name=phone"`))
	}
	phone := f("Phone", encrypted, `db:"phone_ciphertext" kms:"key=phone"`)
	if kind == "Key" && !strings.Contains(tag, "name=") {
		fields, phone = slices.DeleteFunc(fields, func(f reflect.StructField) bool { return f.Name == "Key" }), f("Phone", encrypted, `db:"phone_ciphertext"`)
	}
	fields = append(fields, phone)
	if kind == "Of" && strings.Contains(tag, "attr_encrypted") {
		fields = append(fields, f("IV", partType, `db:"tested_iv"`))
		if strings.Contains(tag, "salt") {
			fields = append(fields, f("Salt", partType, `db:"tested_salt"`))
		}
	}
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		t.Fatal(err)
	}
	master := strings.Repeat("cafe0000", 8)
	indexKey, err := blindindex.ParseMasterKey(master)
	if err != nil {
		t.Fatal(err)
	}
	lockboxKey, err := lockbox.ParseMasterKey(master)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewDynamicModel(box, reflect.StructOf(fields), Config{Table: "customers", IndexKey: indexKey, LockboxMasterKey: lockboxKey, ActiveRecord: railsKeys()})
	return err
}

// railsKeys derives the keys once, because that is slow.
var railsKeys = sync.OnceValue(func() *activerecord.Encryption {
	e, err := activerecord.New(activerecord.Config{PrimaryKeys: activerecord.Passwords("p"), DeterministicKey: activerecord.Password("d"), Salt: "s"})
	if err != nil {
		panic(err)
	}
	return e
})

// Every example of the table is accepted where the table says, and refused on any
// other field and without the options that it begins with.
func TestTagOptionsAreAsDocumented(t *testing.T) {
	t.Parallel()
	rows := optionTable(t)
	takes := make(map[string][]string)
	for _, row := range rows {
		takes[row.option] = append(takes[row.option], row.on...)
	}
	accepted, refused := 0, 0
	for _, row := range rows {
		for _, kind := range row.on {
			if err := tagged(t, kind, row.example); err != nil {
				t.Errorf("a %s with %q: %v", kind, row.example, err)
			}
			accepted++
		}
		words := strings.Split(row.example, ",")
		last := words[len(words)-1]
		if name, _, _ := strings.Cut(last, "="); name != row.option {
			t.Errorf("the example %q of %s does not end in it", row.example, row.option)
		}
		for kind := range fieldTypes {
			tag := row.example
			if slices.Contains(takes[row.option], kind) {
				if tag = last; len(words) == 1 || !slices.Contains(row.on, kind) {
					continue
				}
			}
			if err := tagged(t, kind, tag); !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Errorf("a %s with %q: %v, want ErrConfig", kind, tag, err)
			}
			refused++
		}
	}
	if accepted < len(knownOptions) || refused < 3*len(knownOptions) {
		t.Errorf("%d tags accepted and %d refused, want more", accepted, refused)
	}
}

// The program of the package comment builds and prints what it should.
func TestProgramOfThePackageComment(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds a program")
	}
	var program strings.Builder
	for line := range strings.Lines(packageComment(t)) {
		code, isCode := strings.CutPrefix(line, "\t")
		switch {
		case isCode:
			program.WriteString(code)
		case strings.TrimSpace(line) == "":
			program.WriteString("\n")
		case program.Len() > len("\n\n"):
			path := filepath.Join(t.TempDir(), "main.go")
			if err := os.WriteFile(path, []byte(program.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "go", "run", path).CombinedOutput()
			if want := "Ada ada@example.org\nupdated 1\n"; err != nil || string(out) != want {
				t.Errorf("go run: %v, %q, want %q", err, out, want)
			}
			return
		}
	}
	t.Fatal("doc.go has no program")
}
