package intercept

import "github.com/kmsencrypted/kmsencrypted"

// abilities is a set of the optional interfaces of package kmsencrypted.
type abilities uint8

const (
	hasBatch abilities = 1 << iota
	hasRewrap
	hasProbe
	hasLegacy
	hasMulti
	allAbilities abilities = 1<<iota - 1
)

func abilitiesOf(p kmsencrypted.Provider) (has abilities) {
	if _, ok := p.(kmsencrypted.BatchProvider); ok {
		has |= hasBatch
	}
	if _, ok := p.(kmsencrypted.Rewrapper); ok {
		has |= hasRewrap
	}
	if _, ok := p.(kmsencrypted.Prober); ok {
		has |= hasProbe
	}
	if _, ok := p.(kmsencrypted.LegacyDecrypter); ok {
		has |= hasLegacy
	}
	if _, ok := p.(kmsencrypted.MultiWrapper); ok {
		has |= hasMulti
	}
	return has
}

// with returns p with the methods of a set of abilities. The method set of a
// type is fixed at compile time, so there is one type for each set.
func with(p *provider, has abilities) kmsencrypted.Provider {
	b, r, q, l, m := batch{p}, rewrap{p}, probe{p}, legacy{p}, multi{p}
	switch has {
	case hasBatch:
		return struct {
			*provider
			batch
		}{p, b}
	case hasRewrap:
		return struct {
			*provider
			rewrap
		}{p, r}
	case hasBatch | hasRewrap:
		return struct {
			*provider
			batch
			rewrap
		}{p, b, r}
	case hasProbe:
		return struct {
			*provider
			probe
		}{p, q}
	case hasBatch | hasProbe:
		return struct {
			*provider
			batch
			probe
		}{p, b, q}
	case hasRewrap | hasProbe:
		return struct {
			*provider
			rewrap
			probe
		}{p, r, q}
	case hasBatch | hasRewrap | hasProbe:
		return struct {
			*provider
			batch
			rewrap
			probe
		}{p, b, r, q}
	case hasLegacy:
		return struct {
			*provider
			legacy
		}{p, l}
	case hasBatch | hasLegacy:
		return struct {
			*provider
			batch
			legacy
		}{p, b, l}
	case hasRewrap | hasLegacy:
		return struct {
			*provider
			rewrap
			legacy
		}{p, r, l}
	case hasBatch | hasRewrap | hasLegacy:
		return struct {
			*provider
			batch
			rewrap
			legacy
		}{p, b, r, l}
	case hasProbe | hasLegacy:
		return struct {
			*provider
			probe
			legacy
		}{p, q, l}
	case hasBatch | hasProbe | hasLegacy:
		return struct {
			*provider
			batch
			probe
			legacy
		}{p, b, q, l}
	case hasRewrap | hasProbe | hasLegacy:
		return struct {
			*provider
			rewrap
			probe
			legacy
		}{p, r, q, l}
	case hasBatch | hasRewrap | hasProbe | hasLegacy:
		return struct {
			*provider
			batch
			rewrap
			probe
			legacy
		}{p, b, r, q, l}
	case hasMulti:
		return struct {
			*provider
			multi
		}{p, m}
	case hasBatch | hasMulti:
		return struct {
			*provider
			batch
			multi
		}{p, b, m}
	case hasRewrap | hasMulti:
		return struct {
			*provider
			rewrap
			multi
		}{p, r, m}
	case hasBatch | hasRewrap | hasMulti:
		return struct {
			*provider
			batch
			rewrap
			multi
		}{p, b, r, m}
	case hasProbe | hasMulti:
		return struct {
			*provider
			probe
			multi
		}{p, q, m}
	case hasBatch | hasProbe | hasMulti:
		return struct {
			*provider
			batch
			probe
			multi
		}{p, b, q, m}
	case hasRewrap | hasProbe | hasMulti:
		return struct {
			*provider
			rewrap
			probe
			multi
		}{p, r, q, m}
	case hasBatch | hasRewrap | hasProbe | hasMulti:
		return struct {
			*provider
			batch
			rewrap
			probe
			multi
		}{p, b, r, q, m}
	case hasLegacy | hasMulti:
		return struct {
			*provider
			legacy
			multi
		}{p, l, m}
	case hasBatch | hasLegacy | hasMulti:
		return struct {
			*provider
			batch
			legacy
			multi
		}{p, b, l, m}
	case hasRewrap | hasLegacy | hasMulti:
		return struct {
			*provider
			rewrap
			legacy
			multi
		}{p, r, l, m}
	case hasBatch | hasRewrap | hasLegacy | hasMulti:
		return struct {
			*provider
			batch
			rewrap
			legacy
			multi
		}{p, b, r, l, m}
	case hasProbe | hasLegacy | hasMulti:
		return struct {
			*provider
			probe
			legacy
			multi
		}{p, q, l, m}
	case hasBatch | hasProbe | hasLegacy | hasMulti:
		return struct {
			*provider
			batch
			probe
			legacy
			multi
		}{p, b, q, l, m}
	case hasRewrap | hasProbe | hasLegacy | hasMulti:
		return struct {
			*provider
			rewrap
			probe
			legacy
			multi
		}{p, r, q, l, m}
	case hasBatch | hasRewrap | hasProbe | hasLegacy | hasMulti:
		return struct {
			*provider
			batch
			rewrap
			probe
			legacy
			multi
		}{p, b, r, q, l, m}
	}
	return p
}
