package main

import (
	"encoding/hex"
	"fmt"
	"html"
	"strings"
)

// The picture is a grid of 32 bytes a row.
const (
	perRow = 32
	cell   = 25.0 // width of a byte
	tall   = 24.0 // height of a row
	left   = 40.0
	width  = left + perRow*cell + left
)

// style has colours for both themes; the picture has a background of its own, so
// that it is legible even where the page and the system disagree.
const style = `
	.card { fill: #fffdf8; stroke: #e5dfd3; }
	text { fill: #2b2a27; font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
	.mono, .hex { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
	.hex { font-size: 13.5px; }
	.head { font-size: 17px; font-weight: 600; }
	.quiet { fill: #6b675e; }
	.line { stroke: #a39d90; fill: none; stroke-width: 1.5; }
	.tip { fill: #a39d90; }
	.datakey { fill: #ffd76a; }
	.format { fill: #d9d5cb; }
	.commitment { fill: #bfe3c0; }
	.size { fill: #ece4f7; }
	.wrapped { fill: #f9c9b6; }
	.keytag { fill: #ffe9ae; }
	.nonce { fill: #c9def5; }
	@media (prefers-color-scheme: dark) {
		.card { fill: #16181d; stroke: #30343d; }
		text { fill: #ebe8e1; }
		.quiet { fill: #a5a199; }
		.line { stroke: #7d7a73; }
		.tip { fill: #7d7a73; }
		.datakey { fill: #80610a; }
		.format { fill: #4a4b50; }
		.commitment { fill: #2c5c38; }
		.size { fill: #4c4267; }
		.wrapped { fill: #7c3b28; }
		.keytag { fill: #5c4b17; }
		.nonce { fill: #2b4d73; }
	}
`

// canvas collects the elements of a picture from top to bottom.
type canvas struct {
	strings.Builder
	y float64
}

func (c *canvas) addf(format string, args ...any) { fmt.Fprintf(c, "\t"+format+"\n", args...) }

// text writes one line; class is one of the style's.
func (c *canvas) text(x float64, class, text string) {
	c.addf(`<text x="%g" y="%g" class="%s">%s</text>`, x, c.y, class, html.EscapeString(text))
}

func (c *canvas) textEnd(x float64, class, text string) {
	c.addf(`<text x="%g" y="%g" class="%s" text-anchor="end">%s</text>`, x, c.y, class, html.EscapeString(text))
}

// heading is a line with what belongs to it in small letters on the right.
func (c *canvas) heading(text, right string) {
	c.text(left, "head", text)
	c.textEnd(width-left, "quiet", right)
}

// arrow points down from the current place.
func (c *canvas) arrow(x, length float64, label string) {
	end := c.y + length
	c.addf(`<path class="line" d="M%g %gV%g"/><path class="tip" d="M%g %gl-5 -9h10z"/>`, x, c.y, end-5, x, end)
	c.addf(`<text x="%g" y="%g">%s</text>`, x+14, c.y+length/2+5, html.EscapeString(label))
	c.y = end
}

// bytes draws the parts of a column, a byte a cell.
func (c *canvas) bytes(parts []part) {
	var all []byte
	for _, p := range parts {
		for rest := p.bytes; len(rest) > 0; {
			column, row := len(all)%perRow, len(all)/perRow
			n := min(len(rest), perRow-column)
			c.addf(`<rect class="%s" x="%g" y="%g" width="%g" height="%g" rx="3"/>`,
				p.kind, left+float64(column)*cell+1, c.y+float64(row)*tall, float64(n)*cell-2, tall-3)
			all, rest = append(all, rest[:n]...), rest[n:]
		}
	}
	for len(all) > 0 {
		n := min(len(all), perRow)
		// Three characters a cell: the length keeps them in their cells in any font.
		const advance = cell / 3
		c.addf(`<text class="hex" x="%.2f" y="%g" textLength="%.2f">% x</text>`,
			left+(cell-2*advance)/2, c.y+15.5, float64(3*n-1)*advance, all[:n])
		all = all[n:]
		c.y += tall
	}
}

// legend explains parts, a line each.
func (c *canvas) legend(parts []part) {
	c.y += 20
	for _, p := range parts {
		c.addf(`<rect class="%s" x="%g" y="%g" width="14" height="14" rx="3"/>`, p.kind, left+1, c.y-12)
		c.text(left+24, "", fmt.Sprintf("%s, %d", p.name, len(p.bytes)))
		c.text(left+195, "quiet", p.meaning)
		c.y += 22
	}
}

// column draws a column of the table.
func (c *canvas) column(name, stored string, parts []part) {
	c.text(left, "mono", name)
	c.textEnd(width-left, "mono quiet", fmt.Sprintf("'%s…'  %d characters", stored[:22], len(stored)))
	c.y += 11
	c.bytes(parts)
	c.legend(parts)
}

func draw(e envelope) string {
	c := &canvas{y: 48}
	c.heading("Your program", "prints the field as [redacted]")
	c.y += 28
	c.text(left, "mono", fmt.Sprintf("Customer{ID: %d, Email: %q}", e.ID, e.email))
	c.y += 16
	c.arrow(left+12, 36, "Seal: a new data key for this record")
	c.y += 28
	c.heading("The record’s data key", "32 random bytes, in memory only")
	c.y += 13
	c.bytes([]part{{kind: "datakey", bytes: e.dataKey}})
	c.y += 6
	top := c.y
	c.arrow(left+12, 36, "wrapped by your key service under "+e.context)
	c.y = top
	c.arrow(left+664, 36, "seals the columns")
	c.y += 32
	c.heading("The row in your database", "every byte of it")
	c.y += 32
	c.column("encrypted_kms_key", e.EncryptedKMSKey, e.key)
	c.y += 22
	c.column("email_ciphertext", e.EmailCiphertext, e.column)

	height := c.y + 14
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-labelledby="title desc">`+"\n", width, height, width, height)
	fmt.Fprintf(&svg, "\t<title id=\"title\">One encrypted record, byte for byte</title>\n\t<desc id=\"desc\">%s</desc>\n", html.EscapeString(description(e)))
	fmt.Fprintf(&svg, "\t<style>%s\t</style>\n", style)
	fmt.Fprintf(&svg, "\t<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"%g\" height=\"%g\" rx=\"14\"/>\n", width-1, height-1)
	return svg.String() + c.String() + "</svg>\n"
}

// description says in words what the picture shows.
func description(e envelope) string {
	var b strings.Builder
	fmt.Fprintf(&b, "A customer with the address %s is sealed under a data key of 32 random bytes, %s…, which stays in memory. ", e.email, hex.EncodeToString(e.dataKey[:4]))
	fmt.Fprintf(&b, "The key service wraps the data key under the context %s. The database stores two columns. ", e.context)
	for _, column := range []struct {
		name  string
		parts []part
	}{{"encrypted_kms_key", e.key}, {"email_ciphertext", e.column}} {
		fmt.Fprintf(&b, "%s holds", column.name)
		for i, p := range column.parts {
			fmt.Fprintf(&b, "%s %s, %d bytes: %s", map[bool]string{true: ";"}[i > 0], p.name, len(p.bytes), p.meaning)
		}
		b.WriteString(". ")
	}
	return strings.TrimSpace(b.String())
}
