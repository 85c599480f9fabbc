package main

import "github.com/hashicorp/vault/sdk/helper/consts"

// registry tells the core what is built in. Without a registry the first mount
// panics.
type registry struct{}

func (registry) Contains(name string, kind consts.PluginType) bool {
	return kind == consts.PluginTypeSecrets && name == "transit" || kind == consts.PluginTypeCredential && name == "approle"
}

func (r registry) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	return func() (any, error) { return nil, nil }, r.Contains(name, kind)
}

func (registry) Keys(consts.PluginType) []string { return nil }

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}
