package inplace

import (
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// fields says how each field is set, and how its value is changed in place.
var fields = []struct {
	name        string
	set, change func(*program, *Doc)
}{
	of("Map", func(d *Doc) *field.Of[map[string]string] { return &d.Map }, (*program).textMap, (*program).changeMap),
	of("Node", func(d *Doc) *field.Of[Node] { return &d.Node }, (*program).node, func(p *program, n Node) { p.changeNode(&n) }),
	of("Bytes", func(d *Doc) *field.Of[[]byte] { return &d.Bytes }, (*program).bytes, (*program).changeBytes),
	of("Raw", func(d *Doc) *field.Of[json.RawMessage] { return &d.Raw }, (*program).raw, (*program).changeRaw),
	of("List", func(d *Doc) *field.Of[[]string] { return &d.List }, (*program).list, (*program).changeList),
	of("Pointer", func(d *Doc) *field.Of[*Node] { return &d.Pointer }, (*program).pointer, (*program).changePointer),
	of("Null", func(d *Doc) *field.Of[sql.Null[[]string]] { return &d.Null }, (*program).null,
		func(p *program, v sql.Null[[]string]) { p.changeList(v.V) }),
	of("Any", func(d *Doc) *field.Of[any] { return &d.Any }, (*program).any, (*program).changeAny),
}

func of[T any](name string, at func(*Doc) *field.Of[T], value func(*program) T, change func(*program, T)) (f struct {
	name        string
	set, change func(*program, *Doc)
}) {
	f.name = name
	f.set = func(p *program, d *Doc) {
		if p.IntN(8) == 0 {
			at(d).SetNull()
			return
		}
		at(d).Set(value(p))
	}
	f.change = func(p *program, d *Doc) {
		if v, err := at(d).Get(); err == nil && !at(d).IsNull() {
			change(p, v)
		}
	}
	return f
}

func (p *program) word() string { return fmt.Sprint("word", p.IntN(6)) }

func (p *program) textMap() map[string]string {
	m := make(map[string]string)
	for range p.IntN(4) {
		m[p.word()] = p.word()
	}
	return m
}

func (p *program) changeMap(m map[string]string) {
	switch p.IntN(4) {
	case 0:
		delete(m, p.word())
	case 1:
		clear(m)
	default:
		m[p.word()] = p.word()
	}
}

func (p *program) list() []string {
	l := make([]string, p.IntN(4))
	for i := range l {
		l[i] = p.word()
	}
	return l
}

func (p *program) changeList(l []string) {
	if len(l) > 0 {
		l[p.IntN(len(l))] = p.word()
	}
}

func (p *program) node() Node {
	return Node{Name: p.word(), Tags: p.list(), Sub: map[string]*Node{"a": {Name: p.word()}, "b": {Tags: p.list()}}}
}

func (p *program) null() sql.Null[[]string] {
	return sql.Null[[]string]{V: p.list(), Valid: p.IntN(5) > 0}
}

// changeNode changes what n shares with its copies, and n itself.
func (p *program) changeNode(n *Node) {
	switch p.IntN(6) {
	case 0:
		n.Name = p.word()
	case 1:
		n.Tags = append(n.Tags, p.word())
	case 2:
		p.changeList(n.Tags)
	case 3:
		if n.Sub != nil {
			n.Sub[p.word()] = &Node{Name: p.word()}
		}
	case 4: // from nil to empty, or back
		if n.Tags == nil {
			n.Tags = []string{}
		} else if len(n.Tags) == 0 {
			n.Tags = nil
		}
	default:
		if sub := n.Sub["a"]; sub != nil {
			p.changeNode(sub)
		}
	}
}

func (p *program) pointer() *Node {
	n := p.node()
	return &n
}

func (p *program) changePointer(n *Node) { p.changeNode(n) }

func (p *program) bytes() []byte { return []byte(p.word()) }

func (p *program) changeBytes(b []byte) {
	if len(b) > 0 {
		b[p.IntN(len(b))] ^= byte(p.IntN(3))
	}
}

func (p *program) raw() json.RawMessage { return fmt.Appendf(nil, `{"n": %d}`, p.IntN(10)) }

func (p *program) changeRaw(r json.RawMessage) { r[len(r)-2] = byte('0' + p.IntN(10)) }

func (p *program) any() any {
	switch p.IntN(4) {
	case 0:
		return p.word()
	case 1:
		return []any{p.word(), map[string]any{p.word(): p.IntN(5)}}
	}
	return map[string]any{p.word(): p.IntN(5), "list": []any{p.word(), p.IntN(5), true}}
}

func (p *program) changeAny(v any) {
	switch v := v.(type) {
	case map[string]any:
		if list, ok := v["list"].([]any); ok && p.IntN(2) == 0 {
			p.changeAny(list)
			return
		}
		v[p.word()] = p.IntN(5)
	case []any:
		for _, inner := range v {
			if m, ok := inner.(map[string]any); ok && p.IntN(2) == 0 {
				p.changeAny(m)
				return
			}
		}
		v[p.IntN(len(v))] = p.word()
	}
}
