package awskms

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// maxRotations is the number of on-demand rotations of a key.
const maxRotations = 25

var administrative = map[string]func(*Server, []byte) (any, error){
	"CreateKey":           handle(createKey),
	"DescribeKey":         handle(describeKey),
	"CreateAlias":         handle(createAlias),
	"UpdateAlias":         handle(updateAlias),
	"DeleteAlias":         handle(deleteAlias),
	"ListAliases":         handle(listAliases),
	"EnableKey":           handle(enableKey),
	"DisableKey":          handle(disableKey),
	"ScheduleKeyDeletion": handle(scheduleKeyDeletion),
	"CancelKeyDeletion":   handle(cancelKeyDeletion),
	"ReplicateKey":        handle(replicateKey),
	"RotateKeyOnDemand":   handle(rotateKeyOnDemand),
	"ListKeyRotations":    handle(listKeyRotations),
}

type keyMetadata struct {
	AWSAccountId         string
	Arn                  string
	KeyId                string
	CreationDate         float64
	CurrentKeyMaterialId string
	DeletionDate         float64 `json:",omitempty"`
	Description          string
	Enabled              bool
	EncryptionAlgorithms []string
	KeyManager           string
	KeySpec              string
	KeyState             keyState
	KeyUsage             string
	MultiRegion          bool
	Origin               string

	MultiRegionConfiguration *multiRegionConfiguration `json:",omitempty"`
}

type metadataOutput struct{ KeyMetadata keyMetadata }

func (k *key) metadata() metadataOutput {
	m := keyMetadata{
		AWSAccountId:         Account,
		Arn:                  k.arn(),
		KeyId:                k.id,
		CreationDate:         seconds(k.created),
		CurrentKeyMaterialId: k.current().idText(),
		Description:          k.description,
		Enabled:              k.state == enabled,
		EncryptionAlgorithms: []string{symmetric},
		KeyManager:           "CUSTOMER",
		KeySpec:              symmetric,
		KeyState:             k.state,
		KeyUsage:             "ENCRYPT_DECRYPT",
		Origin:               "AWS_KMS",
		MultiRegion:          k.isMultiRegion(),
	}
	if m.MultiRegion {
		m.MultiRegionConfiguration = k.configuration()
	}
	if k.state == pendingDeletion {
		m.DeletionDate = seconds(k.deletion)
	}
	return metadataOutput{m}
}

func createKey(s *Server, in struct {
	Description, KeySpec, KeyUsage string
	MultiRegion                    bool
}) (any, error) {
	if in.KeySpec != "" && in.KeySpec != symmetric || in.KeyUsage != "" && in.KeyUsage != "ENCRYPT_DECRYPT" {
		return nil, failure("UnsupportedOperationException", "only symmetric keys for encryption")
	}
	of := &lineage{materials: []*material{newMaterial(false)}}
	if !in.MultiRegion {
		return s.addKey(newKeyID(), in.Description, of).metadata(), nil
	}
	primary := s.addKey(newMultiRegionID(), in.Description, of)
	of.related = []*key{primary}
	return primary.metadata(), nil
}

type keyInput struct{ KeyId string }

func describeKey(s *Server, in keyInput) (any, error) {
	k, err := s.find(in.KeyId)
	if err != nil {
		return nil, err
	}
	return k.metadata(), nil
}

type aliasInput struct{ AliasName, TargetKeyId string }

func createAlias(s *Server, in aliasInput) (any, error) {
	if s.aliases[in.AliasName] != "" {
		return nil, failure("AlreadyExistsException", "An alias with the name "+s.arn(in.AliasName)+" already exists")
	}
	return s.pointAlias(in)
}

func updateAlias(s *Server, in aliasInput) (any, error) {
	if _, err := s.find(in.AliasName); err != nil {
		return nil, err
	}
	return s.pointAlias(in)
}

func (s *Server) pointAlias(in aliasInput) (any, error) {
	name, ok := strings.CutPrefix(in.AliasName, "alias/")
	if !ok || name == "" || strings.HasPrefix(name, "aws/") {
		return nil, failure("ValidationException", "Alias must start with the prefix \"alias/\" and not with \"alias/aws/\".")
	}
	k, err := s.find(in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if k.deleting() {
		return nil, k.check()
	}
	s.aliases[in.AliasName] = k.id
	return nil, nil
}

func deleteAlias(s *Server, in aliasInput) (any, error) {
	if _, err := s.find(in.AliasName); err != nil {
		return nil, err
	}
	delete(s.aliases, in.AliasName)
	return nil, nil
}

type aliasEntry struct{ AliasArn, AliasName, TargetKeyId string }

// listAliases returns all aliases in one page.
func listAliases(s *Server, in keyInput) (any, error) {
	entries := []aliasEntry{}
	for _, name := range slices.Sorted(maps.Keys(s.aliases)) {
		if in.KeyId == "" || strings.TrimPrefix(in.KeyId, s.arn("key/")) == s.aliases[name] {
			entries = append(entries, aliasEntry{s.arn(name), name, s.aliases[name]})
		}
	}
	return struct {
		Aliases   []aliasEntry
		Truncated bool
	}{entries, false}, nil
}

func enableKey(s *Server, in keyInput) (any, error)  { return s.setState(in.KeyId, enabled) }
func disableKey(s *Server, in keyInput) (any, error) { return s.setState(in.KeyId, disabled) }

func (s *Server) setState(id string, state keyState) (any, error) {
	k, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if k.deleting() {
		return nil, k.check()
	}
	k.state = state
	return nil, nil
}

func scheduleKeyDeletion(s *Server, in struct {
	KeyId               string
	PendingWindowInDays int
}) (any, error) {
	k, err := s.find(in.KeyId)
	if err != nil {
		return nil, err
	}
	days := in.PendingWindowInDays
	if days == 0 {
		days = 30
	}
	if days < 7 || days > 30 {
		return nil, failure("ValidationException", "PendingWindowInDays must be between 7 and 30")
	}
	if k.deleting() {
		return nil, k.check()
	}
	out := struct {
		KeyId               string
		DeletionDate        float64 `json:",omitempty"`
		KeyState            keyState
		PendingWindowInDays int
	}{KeyId: k.arn(), KeyState: pendingReplicaDeletion, PendingWindowInDays: days}
	if !k.hasReplicas() { // a primary waits until its replicas are gone
		k.deletion = time.Now().AddDate(0, 0, days)
		out.KeyState, out.DeletionDate = pendingDeletion, seconds(k.deletion)
	}
	k.state = out.KeyState
	return out, nil
}

func cancelKeyDeletion(s *Server, in keyInput) (any, error) {
	k, err := s.find(in.KeyId)
	if err != nil {
		return nil, err
	}
	if !k.deleting() {
		return nil, failure("KMSInvalidStateException", k.arn()+" is not pending deletion.")
	}
	k.state = disabled
	return keyInput{k.arn()}, nil
}

func rotateKeyOnDemand(s *Server, in keyInput) (any, error) {
	k, err := s.usable(in.KeyId)
	if err != nil {
		return nil, err
	}
	if k.isReplica() {
		return nil, failure("UnsupportedOperationException", k.arn()+" is a replica: rotate its primary.")
	}
	if len(k.materials) > maxRotations {
		return nil, failure("LimitExceededException", "on-demand rotation limit reached")
	}
	k.materials = append(k.materials, newMaterial(true))
	return keyInput{k.id}, nil
}

type rotation struct {
	KeyId, KeyMaterialId, KeyMaterialState string
	RotationType                           string  `json:",omitempty"`
	RotationDate                           float64 `json:",omitempty"`
}

// listKeyRotations returns all rotations in one page, the newest last.
func listKeyRotations(s *Server, in struct{ KeyId, IncludeKeyMaterial string }) (any, error) {
	k, err := s.find(in.KeyId)
	if err != nil {
		return nil, err
	}
	rotations := []rotation{}
	for _, m := range k.materials {
		r := rotation{KeyId: k.id, KeyMaterialId: m.idText(), KeyMaterialState: "NON_CURRENT"}
		if m == k.current() {
			r.KeyMaterialState = "CURRENT"
		}
		if m.rotated {
			r.RotationType, r.RotationDate = "ON_DEMAND", seconds(m.made)
		} else if in.IncludeKeyMaterial != "ALL_KEY_MATERIAL" {
			continue
		}
		rotations = append(rotations, r)
	}
	return struct {
		Rotations []rotation
		Truncated bool
	}{rotations, false}, nil
}
