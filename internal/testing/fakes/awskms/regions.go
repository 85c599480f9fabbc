package awskms

import (
	"slices"
	"strings"
	"sync"
)

// account is the state that the servers of one account share. They share one
// lock, because a multi-region key has its material in several of them.
type account struct {
	mu      sync.Mutex
	regions map[string]*Server
}

// InRegion starts the server of the same account in another region. It has keys
// and aliases of its own; ReplicateKey replicates multi-region keys to it. The
// caller closes it.
func (s *Server) InRegion(region string) *Server { return s.start(region) }

// newMultiRegionID returns an id with the prefix that marks multi-region keys.
func newMultiRegionID() string { return "mrk-" + strings.ReplaceAll(newKeyID(), "-", "") }

func (k *key) isMultiRegion() bool { return len(k.related) > 0 }
func (k *key) isReplica() bool     { return k.isMultiRegion() && k.related[0] != k }
func (k *key) hasReplicas() bool   { return len(k.related) > 1 && k.related[0] == k }

type multiRegionKey struct{ Arn, Region string }

type multiRegionConfiguration struct {
	MultiRegionKeyType string
	PrimaryKey         multiRegionKey
	ReplicaKeys        []multiRegionKey
}

func (k *key) configuration() *multiRegionConfiguration {
	c := &multiRegionConfiguration{MultiRegionKeyType: "PRIMARY", ReplicaKeys: []multiRegionKey{}}
	if k.isReplica() {
		c.MultiRegionKeyType = "REPLICA"
	}
	for i, related := range k.related {
		named := multiRegionKey{related.arn(), related.region}
		if i == 0 {
			c.PrimaryKey = named
			continue
		}
		c.ReplicaKeys = append(c.ReplicaKeys, named)
	}
	return c
}

// replicateKey makes a replica that is ready at once. The service takes some
// seconds, during which the state is Creating.
func replicateKey(s *Server, in struct{ KeyId, ReplicaRegion, Description string }) (any, error) {
	k, err := s.usable(in.KeyId)
	if err != nil {
		return nil, err
	}
	if !k.isMultiRegion() || k.isReplica() {
		return nil, failure("UnsupportedOperationException", k.arn()+" is not a multi-region primary key.")
	}
	there, known := s.regions[in.ReplicaRegion]
	switch {
	case !known || there == s:
		return nil, invalid("replicaRegion", "not a region to replicate to")
	case slices.ContainsFunc(k.related, func(r *key) bool { return r.region == in.ReplicaRegion }):
		return nil, failure("AlreadyExistsException", "there is a replica in "+in.ReplicaRegion+" already")
	}
	replica := there.addKey(k.id, in.Description, k.lineage)
	k.related = append(k.related, replica)
	return struct{ ReplicaKeyMetadata keyMetadata }{replica.metadata().KeyMetadata}, nil
}
