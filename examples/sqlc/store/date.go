package store

import (
	"time"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Date has a name because sqlc does not import the type argument of field.Of.
type Date = field.Of[time.Time]
