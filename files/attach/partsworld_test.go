package attach_test

import (
	"context"

	"github.com/kmsencrypted/kmsencrypted/files/attach"
)

// The parts of an object as the stepping process sees them. The process may die before or
// after each.
func (b steppingBucket) parts() attach.PartBucket { return b.Bucket.(attach.PartBucket) }

func (b steppingBucket) BeginParts(ctx context.Context, name string) (upload string, err error) {
	err = b.around(func() error {
		upload, err = b.parts().BeginParts(ctx, name)
		return err
	})
	return upload, err
}

func (b steppingBucket) PutPart(ctx context.Context, name, upload string, p attach.Part, content []byte) error {
	return b.around(func() error { return b.parts().PutPart(ctx, name, upload, p, content) })
}

func (b steppingBucket) ListParts(ctx context.Context, name, upload string) (list []attach.Part, err error) {
	err = b.around(func() error {
		list, err = b.parts().ListParts(ctx, name, upload)
		return err
	})
	return list, err
}

func (b steppingBucket) CompleteParts(ctx context.Context, name, upload string, parts []attach.Part) error {
	return b.around(func() error { return b.parts().CompleteParts(ctx, name, upload, parts) })
}

func (b steppingBucket) AbortParts(ctx context.Context, name, upload string) error {
	return b.around(func() error { return b.parts().AbortParts(ctx, name, upload) })
}

func (b steppingBucket) around(do func() error) error {
	if err := b.step(); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return b.step()
}

// attachInParts uploads a file in parts, the last one first, and attaches it.
func (w *world) attachInParts(ctx context.Context, c *customer, content []byte) error {
	u, key, err := w.manager.BeginParts(ctx, c, "scans", attach.Options{Name: "scan.bin", Size: int64(len(content))})
	if err != nil {
		return err
	}
	key.Wipe()
	for n := u.Parts(); n > 0; n-- {
		if err := w.manager.SealPart(ctx, c, u, n, partOf(u, n, content)); err != nil {
			return err
		}
	}
	p, err := w.manager.FinishParts(ctx, c, u, nil)
	return w.committed(ctx, p, err)
}

// partOf is what a part has of a file.
func partOf(u *attach.PartUpload, n int, content []byte) []byte {
	return content[int64(n-1)*u.PartSize:][:u.PartLength(n)]
}
