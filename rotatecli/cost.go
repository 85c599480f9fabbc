package rotatecli

import (
	"context"
	"fmt"
	"time"

	"github.com/kmsencrypted/kmsencrypted/rotation"
)

type costCmd struct {
	rotationFlags
	JSON bool `help:"Print JSON."`
}

func (costCmd) Help() string {
	return `Prices are list prices of requests and of what an audit log keeps of them; yours
differ by region and contract. Example:

  rotate cost --kms-rate 2500`
}

// costJSON is an estimate in JSON.
type costJSON struct {
	Table    string  `json:"table"`
	Records  int64   `json:"records"`
	Calls    int64   `json:"kms_calls"`
	Price    float64 `json:"price"`
	Currency string  `json:"currency,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	LogBytes int64   `json:"log_bytes"`
	LogPrice float64 `json:"log_price"`
	WALBytes int64   `json:"wal_bytes"`
}

func (c *costCmd) Run(ctx context.Context, s *Session) error {
	tables, err := s.counted(ctx, c.Table)
	if err != nil {
		return err
	}
	var all []costJSON
	rows := [][]string{{"TABLE", "RECORDS", "KMS CALLS", "PRICE", "TIME", "AUDIT LOG", "DATABASE LOG"}}
	if err := c.partFlags.check(tables); err != nil {
		return err
	}
	for _, t := range tables {
		if err := c.checkTarget(t); err != nil {
			return err
		}
		part, err := c.partFlags.of(t)
		if err != nil {
			return err
		}
		o := rotation.Options{Kind: rotation.Kind(c.Kind), WritersAreOurs: true, Part: part}
		if c.KMSRate > 0 { // an estimate books nothing and changes no rate
			o.Calls = rotation.NewLimiter(c.KMSRate)
		}
		rotator, err := t.rotator(o)
		if err != nil {
			return err
		}
		e, err := rotator.Cost(ctx, t.prices())
		if err != nil {
			return err
		}
		all = append(all, costJSON{t.name, e.Records, e.Calls, e.Price, e.Currency, e.Duration.Seconds(), e.LogBytes, e.LogPrice, e.WALBytes})
		rows = append(rows, []string{
			t.name, count(e.Records), count(e.Calls), money(e.Currency, e.Price), orDash(e.Duration),
			size(e.LogBytes) + money(" "+e.Currency, e.LogPrice), size(e.WALBytes),
		})
	}
	if c.JSON {
		return s.printJSON(all)
	}
	columnsOf(s.Stdout, rows)
	return nil
}

func money(currency string, amount float64) string {
	if amount == 0 {
		return map[bool]string{true: "", false: "free"}[currency != "" && currency[0] == ' ']
	}
	return fmt.Sprintf("%s %.2f", currency, amount)
}

func orDash(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return span(d)
}

// size formats a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
