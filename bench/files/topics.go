// Package files compares libraries that encrypt files. The limit is AES-256-GCM of
// the standard library over pieces in memory, with nothing read, written or framed.
package files

import (
	"fmt"

	"github.com/kmsencrypted/kmsencrypted/bench/job"
)

const objectSize = 64 << 20

// Topics returns the jobs. Their objects are files in folder.
func Topics(folder string) ([]job.Topic, error) {
	us, all := ours(1), peers()
	ourObject, err := us.object(folder, make([]byte, objectSize))
	if err != nil {
		return nil, err
	}
	ourAt, err := us.opened(ourObject)
	if err != nil {
		return nil, err
	}
	seal, open := limits(chunk, objectSize)
	encrypt := job.Job{Name: "encrypt 64 MiB", Ours: us.encryptAll(), Limit: seal}
	decrypt := job.Job{Name: "decrypt 64 MiB", Ours: us.decryptAll(ourObject), Limit: open}
	lockbox, err := lockboxJobs(folder, seal, open)
	if err != nil {
		return nil, err
	}
	ranges := make([]job.Job, len(rangeSizes))
	for i, size := range rangeSizes {
		_, open := limits(size, reads*size)
		ranges[i] = job.Job{Name: fmt.Sprintf("read %d ranges of %d KiB", reads, size>>10), Ours: readRanges(ourAt, size), Limit: open}
	}
	for _, p := range all {
		object, err := p.object(folder, make([]byte, objectSize))
		if err != nil {
			return nil, err
		}
		entry := func(run func()) job.Peer {
			return job.Peer{Name: p.name, Way: p.way, Module: p.module, Otherwise: p.otherwise, Run: run}
		}
		encrypt.Peers = append(encrypt.Peers, entry(p.encryptAll()))
		decrypt.Peers = append(decrypt.Peers, entry(p.decryptAll(object)))
		if p.at == nil {
			continue
		}
		at, err := p.opened(object)
		if err != nil {
			return nil, err
		}
		for i, size := range rangeSizes {
			ranges[i].Peers = append(ranges[i].Peers, entry(readRanges(at, size)))
		}
	}
	return []job.Topic{
		{Name: "files", Title: "Files: an object of 64 MiB", Jobs: append([]job.Job{encrypt, decrypt}, lockbox...)},
		{Name: "ranges", Title: "Ranges: parts of an object of 64 MiB", Jobs: ranges},
	}, nil
}
