package main

import (
	"bytes"
	"testing"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `The planner on an index of domains:
  2 bits for 24 rows with 8 distinct values: a look-up returns about 7.6 rows, 2.1 of them sought (71.8 % false).
  Rows without a value are seen: NULL stays NULL.
  Rows with different index values hold different values.
  Rows with the same index value hold the same value with a probability of 17.3 %: an index value stands for 2.8 values on average.
  The most frequent value does not stand out: its index value is on 12.8 rows, an average one on 6.7.
  Look-ups open more false rows than the square root of the table, 4.9: a wider index is cheaper.
  Anybody who has the index key can test a guessed value at the cost of one hash; a wrong guess agrees with a given row by chance once in 4.

By e-mail address ADA@MAIL.EXAMPLE:
  found    Ada        Ada@mail.example, +44 20 7946 0958

By 0958, the last four digits:
  found    Ada        Ada@mail.example, +44 20 7946 0958
  found    Joan       joan@park.example, +44 (0)20 7946-0958

By domain, that of anyone@navy.example; others have the same index value:
  found    Grace      grace@navy.example, +1 555 0906 1906
  found    Jean       jean@navy.example, +1 215 555 1227
  dropped  Niklaus    niklaus@eth.example, +41 44 555 0215
  dropped  Ursula     ursula@eth.example, +41 44 555 1021

A second customer with Ada's address, in other letters:
  the e-mail address is taken: constraint failed: UNIQUE constraint failed: customers.email_bidx (2067)

The index of addresses moves to another key:
  second column added:               24 of 24 found by email_bidx
  Alan moves to Barbara's address:   the e-mail address is taken: constraint failed: UNIQUE constraint failed: customers.email_bidx (2067)
  Ada has moved twice:               24 of 24 found by email_bidx
  filled 23 rows; 1 was changed meanwhile, with both indexes
  second column filled:              24 of 24 found by email_bidx
                                     24 of 24 found by email_bidx_v2
`
	if got := out.String(); got != want {
		t.Errorf("output:\n%s\nwant:\n%s", got, want)
	}
}
