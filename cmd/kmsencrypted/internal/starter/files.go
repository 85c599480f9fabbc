package starter

import (
	"bytes"
	"embed"
	"fmt"
	"go/format"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/kmsencrypted/kmsencrypted/field"
	"github.com/kmsencrypted/kmsencrypted/sqlstore"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*"))

// File is a file to write.
type File struct {
	Path string // with slashes, below the folder of the program
	Text string
}

// Files returns what a program begins with.
func (p *Plan) Files() ([]File, error) {
	files := []File{{Path: "kmsencrypted.yaml"}, {Path: path.Join(p.Package, p.Table.Name+".go")}}
	for i, name := range []string{"kmsencrypted.yaml.tmpl", "records.go.tmpl"} {
		if err := p.execute(&files[i], name); err != nil {
			return nil, err
		}
	}
	if p.Module != "" {
		ops := File{Path: "ops/main.go"}
		if err := p.execute(&ops, "ops.go.tmpl"); err != nil {
			return nil, err
		}
		files = append(files, ops)
	}
	migration, err := p.migration()
	return append(files, migration...), err
}

func (p *Plan) execute(into *File, name string) error {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, p); err != nil {
		return err
	}
	into.Text = b.String()
	if !strings.HasSuffix(into.Path, ".go") {
		return nil
	}
	formatted, err := format.Source(b.Bytes())
	if err != nil {
		return fmt.Errorf("%s: %w", into.Path, err)
	}
	into.Text = string(formatted)
	return nil
}

const module = "github.com/kmsencrypted/kmsencrypted"

// Imports returns those of the records, the standard library's first.
func (p *Plan) Imports() []string {
	own := []string{module, module + "/field"}
	if len(p.Indexes) > 0 {
		own = append(own, module+"/blindindex")
	}
	var standard []string
	for _, f := range p.Fields {
		if f.imports != "" && !slices.Contains(standard, f.imports) {
			standard = append(standard, f.imports)
		}
	}
	return grouped(standard, own)
}

// drivers are those that the command itself uses.
var drivers = map[field.Dialect]string{
	field.Postgres: "github.com/jackc/pgx/v5/stdlib",
	field.MySQL:    "github.com/go-sql-driver/mysql",
	field.SQLite:   "modernc.org/sqlite",
}

// OpsImports returns those of ops after the standard library's.
func (p *Plan) OpsImports() []string {
	own := []string{module, module + "/providers", module + "/rotatecli"}
	if len(p.Indexes) > 0 {
		own = append(own, module+"/blindindex")
	}
	lines := grouped(nil, own)
	return append([]string{"", `_ "` + drivers[p.Dialect] + `"`, ""}, append(lines, "", `"`+p.Module+"/"+p.Package+`"`)...)
}

// grouped returns import lines, with an empty one between two groups.
func grouped(groups ...[]string) (lines []string) {
	for _, group := range groups {
		if len(lines) > 0 && len(group) > 0 {
			lines = append(lines, "")
		}
		slices.Sort(group)
		for _, path := range group {
			lines = append(lines, `"`+path+`"`)
		}
	}
	return lines
}

// Tags returns the tags of the field as they stand in Go.
func (f Field) Tags() string { return "`" + f.tags() + "`" }

// YAMLType returns the type of the column in the configuration file; texts need none.
func (f Field) YAMLType() string {
	if _, option, ok := strings.Cut(f.Tag, "type="); ok {
		name, _, _ := strings.Cut(option, ",")
		return name
	}
	return map[string]string{"[]byte": "bytes", "int64": "integer", "uint64": "integer", "float64": "float", "bool": "boolean"}[f.inner()]
}

// inner returns the type of an encrypted field's values.
func (f Field) inner() string {
	return strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(f.Type, "field.Of["), "]"), "*")
}

// IDs returns the primary key for the configuration file.
func (p *Plan) IDs() string {
	var names []string
	for _, c := range p.Table.Columns {
		if c.Primary {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

// Tools are the programs that migrate a database, with the files that each one reads.
var Tools = map[string]func(version string, up, down []string) []File{
	"golang-migrate": func(version string, up, down []string) []File {
		return []File{
			{path.Join("migrations", version+".up.sql"), statements(up)},
			{path.Join("migrations", version+".down.sql"), statements(down)},
		}
	},
	"goose": func(version string, up, down []string) []File {
		return []File{{path.Join("migrations", version+".sql"), "-- +goose Up\n" + statements(up) + "\n-- +goose Down\n" + statements(down)}}
	},
}

func statements(all []string) string {
	var b strings.Builder
	for _, s := range all {
		b.WriteString(s)
		if !strings.HasPrefix(s, "--") {
			b.WriteString(";")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (p *Plan) migration() ([]File, error) {
	write, ok := Tools[p.Tool]
	if !ok {
		return nil, mistake("no migration tool %q: want golang-migrate or goose", p.Tool)
	}
	up, err := p.up()
	if err != nil {
		return nil, err
	}
	return write(p.Now.UTC().Format("20060102150405")+"_encrypt_"+p.Table.Name, up, p.down()), nil
}

// up returns the statements that make what the program needs.
func (p *Plan) up() ([]string, error) {
	table := p.Dialect.QuotedTable(p.Table.Name)
	var all []string
	for _, definition := range p.Definitions {
		all = append(all, "ALTER TABLE "+table+" ADD COLUMN "+definition)
	}
	if p.Dialect == field.SQLite {
		all = append(all, "-- SQLite takes no constraint on a table that exists: docs/database.md says how to refuse plaintext there.")
	} else {
		all = append(all, "ALTER TABLE "+table+" ADD "+p.Constraint)
	}
	for _, x := range p.Indexes {
		all = append(all, "CREATE INDEX "+p.indexName(x)+" ON "+table+" ("+p.Dialect.Defined(x.Column)+")")
	}
	own, err := sqlstore.Tables(p.Dialect)
	return append(append(all, "-- What the library keeps of rotations."), own...), err
}

// down takes back what holds no values: dropping the columns would destroy them.
func (p *Plan) down() (all []string) {
	table := p.Dialect.QuotedTable(p.Table.Name)
	for _, x := range p.Indexes {
		drop := "DROP INDEX " + p.indexName(x)
		if p.Dialect == field.MySQL {
			drop += " ON " + table
		}
		all = append(all, drop)
	}
	if p.Dialect != field.SQLite {
		all = append(all, "ALTER TABLE "+table+" DROP CONSTRAINT "+p.Dialect.Defined(p.Table.Name+"_encrypted"))
	}
	return append(all, "-- The encrypted columns and the tables of rotations stay: nothing else has their values. A second migration upwards fails while they exist.")
}

func (p *Plan) indexName(x Field) string { return p.Dialect.Defined(p.Table.Name + "_" + x.Column) }
