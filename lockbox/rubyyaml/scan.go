package rubyyaml

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kmsencrypted/kmsencrypted/internal/rubycompat"
)

// scalars are the forms of plain text that Psych 4 does not read as strings.
type scalars struct {
	timestamp, zone, date, infinity, integer, base60, float, base60Float *regexp.Regexp
}

var patterns = sync.OnceValue(func() scalars {
	return scalars{
		timestamp: regexp.MustCompile(`^(-?\d{4})-(\d{1,2})-(\d{1,2})(?:[Tt]|\s+)(\d{1,2}):(\d\d):(\d\d)(?:(\.)(\d*))?(?:\s*(Z|[-+]\d{1,2}:?(?:\d\d)?))?$`),
		zone:      regexp.MustCompile(`^([-+]\d{1,2}):?(\d{2})?$`),
		date:      regexp.MustCompile(`^(\d{4})-(1[012]|0\d|\d)-([12]\d|3[01]|0\d|\d)$`),
		infinity:  regexp.MustCompile(`(?i)^([-+]?)\.inf$`),
		integer:   regexp.MustCompile(`^[-+]?(?:0b[01_,]+|0[0-7_,]+|0|[1-9](?:[0-9]|,[0-9]|_[0-9])*|0x[0-9a-fA-F_,]+)$`),
		base60:    regexp.MustCompile(`^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}$`),
		float:     regexp.MustCompile(`^[-+]?(?:[0-9][0-9_,]*)?\.[0-9]*(?:[eE][-+][0-9]+)?$`),
		// Like Psych, do not read what follows the point.
		base60Float: regexp.MustCompile(`^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}\.[0-9_]*$`),
	}
})

var errNumber = errors.New("an invalid number")

// words are the plain texts that Psych does not read as strings, in any case.
var words = map[string]any{
	"~": nil, "null": nil,
	"yes": true, "true": true, "on": true,
	"no": false, "false": false, "off": false,
}

// scan returns the value of plain text.
func scan(text string) (any, error) {
	if text == "" {
		return nil, nil
	}
	if value, ok := words[strings.ToLower(text)]; ok {
		return value, nil
	}
	if name, ok := strings.CutPrefix(text, ":"); ok && name != "" && !strings.Contains(text, "\n") {
		return symbol(name), nil
	}
	if first := text[0]; (first < '0' || first > '9') && strings.IndexByte("+-.", first) < 0 {
		return text, nil // all forms below begin with one of these
	}
	p := patterns()
	switch {
	case p.timestamp.MatchString(text):
		if t, ok := timestamp(p, text); ok {
			return t, nil
		}
		return text, nil
	case p.date.MatchString(text):
		if d, ok := date(p.date.FindStringSubmatch(text)); ok {
			return d, nil
		}
		return text, nil
	case p.infinity.MatchString(text):
		if text[0] == '-' {
			return math.Inf(-1), nil
		}
		return math.Inf(1), nil
	case strings.EqualFold(text, ".nan"):
		return math.NaN(), nil
	case p.base60.MatchString(text):
		return base60(text), nil
	case p.base60Float.MatchString(text):
		return base60Float(text)
	case p.float.MatchString(text):
		return float(text)
	case p.integer.MatchString(text):
		return integer(text)
	}
	return text, nil
}

// symbol returns the symbol for what follows a colon, without quotes.
func symbol(name string) Symbol {
	if quote := name[0]; quote == '"' || quote == '\'' {
		if end := strings.LastIndexByte(name, quote); end > 0 {
			return Symbol(strings.TrimPrefix(name[1:end], ":"))
		}
	}
	return Symbol(name)
}

func timestamp(p scalars, text string) (time.Time, bool) {
	m := p.timestamp.FindStringSubmatch(text)
	var n [6]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1])
	}
	year, month, day, hour, minute, second := n[0], n[1], n[2], n[3], n[4], n[5]
	fraction, point := m[8], m[7]
	switch {
	case month < 1 || month > 12, day < 1 || day > 31, minute > 59, second > 60,
		hour > 24, hour == 24 && (minute > 0 || second > 0), point != "" && fraction == "":
		return time.Time{}, false
	}
	nanoseconds, _ := strconv.Atoi((fraction + "000000000")[:9])
	zone := time.UTC
	if m[9] != "" && m[9] != "Z" {
		offset := p.zone.FindStringSubmatch(m[9])
		if offset == nil {
			return time.Time{}, false
		}
		hours, _ := strconv.Atoi(offset[1])
		minutes, _ := strconv.Atoi(offset[2])
		if hours < 0 {
			minutes = -minutes
		}
		zone = time.FixedZone("", hours*3600+minutes*60)
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nanoseconds, zone), true
}

func date(m []string) (Date, bool) {
	year, _ := strconv.Atoi(m[1])
	month, _ := strconv.Atoi(m[2])
	day, _ := strconv.Atoi(m[3])
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	// Before 1582 Ruby's dates follow the Julian calendar.
	julian := month == 2 && day == 29 && year%4 == 0 && year <= 1582
	return Date{year, time.Month(month), day}, julian || t.Day() == day && int(t.Month()) == month
}

var separators = strings.NewReplacer(",", "", "_", "")

func integer(text string) (any, error) {
	n, ok := new(big.Int).SetString(separators.Replace(text), 0)
	if !ok {
		return nil, errNumber
	}
	return rubycompat.Integer(n), nil
}

func float(text string) (any, error) {
	text = separators.Replace(text)
	if strings.Trim(text, "+-.") == "" {
		return text, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, errNumber
	}
	return f, nil
}

// base60 parses 1:30 as Psych does: as hours and minutes, in seconds.
func base60(text string) any {
	sum := new(big.Int)
	for i, part := range strings.Split(strings.ReplaceAll(text, "_", ""), ":") {
		n, _ := new(big.Int).SetString(part, 10)
		sum.Add(sum, n.Mul(n, big.NewInt([]int64{3600, 60, 1}[i])))
	}
	return rubycompat.Integer(sum)
}

func base60Float(text string) (any, error) {
	sum := 0.0
	for i, part := range strings.Split(strings.ReplaceAll(text, "_", ""), ":") {
		f, err := strconv.ParseFloat(part, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return nil, errNumber
		}
		sum += f * []float64{3600, 60, 1}[i]
	}
	return sum, nil
}
