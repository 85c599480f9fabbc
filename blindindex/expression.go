package blindindex

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/unicode15"
)

// Expression returns the part of a value to index. It is applied to stored values
// and to values looked up, must always return the same result for the same value,
// and is called by many goroutines at once. The zero Plaintext indexes NULL. An
// error makes computing this value fail; it should not quote the value.
//
// As in blind_index, it is also called for NULL. So an expression such as ->(v) {
// v.to_s.downcase }, which gives NULL the index of the empty text, can be written.
// Unlike in Ruby it always receives text: the digits of an integer.
//
// The index cannot distinguish what an expression drops: look-ups return more rows
// than were sought, and the opened values must be compared. The column reveals
// what the expression keeps. The fewer values are possible, the more their
// frequency reveals: check an index of last digits or domains with [Propose].
type Expression func(Plaintext) (Plaintext, error)

// Transform returns an [Expression] that applies f to text. NULL stays NULL. It
// returns [ErrValue] for text that is not valid UTF-8, which is an error in Ruby
// too.
func Transform(f func(text string) string) Expression {
	return func(p Plaintext) (Plaintext, error) {
		return onText(p, func(text string) Plaintext { return Text(f(text)) })
	}
}

// Chain returns an expression that applies expressions one after the other.
func Chain(expressions ...Expression) Expression {
	return func(p Plaintext) (Plaintext, error) {
		for _, e := range expressions {
			var err error
			if p, err = e(p); err != nil {
				return Plaintext{}, err
			}
		}
		return p, nil
	}
}

func onText(p Plaintext, f func(text string) Plaintext) (Plaintext, error) {
	if p.IsNull() {
		return Plaintext{}, nil
	}
	if !utf8.ValidString(p.Text()) {
		return Plaintext{}, fmt.Errorf("%w: the text is not valid UTF-8", ErrValue)
	}
	return f(p.Text()), nil
}

// Lower is Ruby's downcase: the full Unicode lower case of each character,
// independent of its neighbours (Σ becomes σ at the end of a word too). It differs
// from [strings.ToLower] in İ, which becomes i and a combining dot.
//
// It uses the table of Unicode 15.0.0 under every release of Go, so that an index
// value does not depend on the compiler. It does not change letters added later,
// such as those of the alphabet Garay in Unicode 16. Ruby 3.2 and 3.3 have the
// same table. Older ones lack the alphabet Vithkuqi and a few historical letters
// of Unicode 14; newer ones know letters that Lower does not change.
//
// It does no case folding (ß and ss stay different) and no normalisation (é as one
// and as two characters stay different). Package unicodeform does.
//
// Leaks: which rows are equal but for case.
func Lower(p Plaintext) (Plaintext, error) {
	return onText(p, func(text string) Plaintext {
		return Text(strings.ReplaceAll(strings.Map(lowerRune, text), string(dottedI), "i\u0307"))
	})
}

// dottedI is the only character whose lower case has more than one character.
const dottedI = '\u0130'

func lowerRune(r rune) rune {
	if r == dottedI {
		return r
	}
	return unicode15.ToLower(r)
}

// Last keeps the last n characters, or all of a shorter text: Rails' last(n).
// (Ruby's value[-n..] is nil for a shorter text.) Characters are code points.
//
// Leaks: which rows end alike; for the last 4 digits of card numbers there are
// only 10,000 possibilities, so frequencies and the size of each group show.
func Last(n uint) Expression {
	return Transform(func(text string) string {
		start := len(text)
		for range n {
			if start == 0 {
				break
			}
			_, size := utf8.DecodeLastRuneInString(text[:start])
			start -= size
		}
		return text[start:]
	})
}

// Prefix keeps the first n characters, or all of a shorter text. Characters are
// code points. To find values by beginnings of any length use [PrefixIndex].
//
// Leaks: which rows begin alike, and so, for names and places, nearly as much as
// the common beginnings themselves.
func Prefix(n uint) Expression {
	return Transform(func(text string) string { return firstRunes(text, n) })
}

// firstRunes returns the first n characters of a text, or all of it.
func firstRunes(text string, n uint) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

// Digits keeps the digits 0 to 9 and drops everything else, like Ruby's gsub(/\D/,
// ""). A text without digits becomes the empty text, not NULL.
//
// Leaks: which rows hold the same number however it is written.
func Digits(p Plaintext) (Plaintext, error) {
	return onText(p, func(text string) Plaintext {
		return Text(strings.Map(func(r rune) rune {
			if '0' <= r && r <= '9' {
				return r
			}
			return -1
		}, text))
	})
}

// Domain keeps what follows the last @ of an e-mail address, in lower case like
// [Lower]. It returns NULL if there is no @ or nothing after it.
//
// Leaks: which rows share a domain. A few large providers stand out by their
// frequency alone, and a domain of one company names its staff; a truncated
// index ([Options.Bits]) helps.
func Domain(p Plaintext) (Plaintext, error) {
	domain, err := onText(p, func(text string) Plaintext {
		at := strings.LastIndexByte(text, '@')
		if at < 0 || at == len(text)-1 {
			return Plaintext{}
		}
		return Text(text[at+1:])
	})
	if err != nil {
		return Plaintext{}, err
	}
	return Lower(domain)
}

// Presence turns an empty text and a text of only white space into NULL and keeps
// every other text: Rails' presence.
//
// Leaks: which rows are blank, as NULLs do anyway.
func Presence(p Plaintext) (Plaintext, error) {
	return onText(p, func(text string) Plaintext {
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode15.IsSpace(r) }) {
			return p
		}
		return Plaintext{}
	})
}

// ParseExpression parses a short text, as used in tags and configuration files:
// "lower", "digits", "domain", "presence", "last4" and "prefix3" (with any number
// from 1 to 65535), or several joined with "+" that are applied from left to
// right: "presence+lower". It returns [kmsencrypted.ErrConfig] for anything else.
func ParseExpression(text string) (Expression, error) {
	var chain []Expression
	for name := range strings.SplitSeq(text, "+") {
		e, err := namedExpression(name)
		if err != nil {
			return nil, err
		}
		chain = append(chain, e)
	}
	if len(chain) == 1 {
		return chain[0], nil
	}
	return Chain(chain...), nil
}

func namedExpression(name string) (Expression, error) {
	switch name {
	case "lower":
		return Lower, nil
	case "digits":
		return Digits, nil
	case "domain":
		return Domain, nil
	case "presence":
		return Presence, nil
	}
	for prefix, counted := range map[string]func(uint) Expression{"last": Last, "prefix": Prefix} {
		number, ok := strings.CutPrefix(name, prefix)
		if !ok || strings.HasPrefix(number, "0") {
			continue
		}
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			return counted(uint(n)), nil
		}
	}
	return nil, fmt.Errorf("blindindex: %w: unknown expression %q", kmsencrypted.ErrConfig, name)
}
