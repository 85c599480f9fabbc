package branch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/durable"
	"github.com/kmsencrypted/kmsencrypted/internal/filelock"
	"github.com/kmsencrypted/kmsencrypted/rotation"
)

// Receipts in a file (spec/branch.md section 8): one JSON object in each line, which has the hash
// of the line before it and the head after it. So the last line suffices to read the head.

// maxReceipt limits a line in bytes.
const maxReceipt = 1 << 20

// mostOf limits a line by its kind. What has begun leaves room for the receipts that complete it, which are longer.
func mostOf(kind ReceiptKind) int {
	if kind == ErasureBegun {
		return maxReceipt / 2
	}
	return maxReceipt
}

// CreateReceipts makes a file for the receipts of a key store and opens it. It returns
// [fs.ErrExist] if the file exists. Keep it where no backup of the databases is restored over it.
func CreateReceipts(ctx context.Context, path string, store Store) (Receipts, error) {
	state, _, err := store.Read(ctx, Name{})
	if err != nil {
		return nil, err
	}
	if state.Epoch > 0 {
		return nil, fmt.Errorf("branch: %w: erasures from this key store have receipts elsewhere", kmsencrypted.ErrConfig)
	}
	line, err := json.Marshal(receiptLine{Store: state.ID.String(), Kind: "created", At: now()})
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = durable.SyncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	return OpenReceipts(path)
}

// OpenReceipts opens the receipts in a file that [CreateReceipts] made. Servers need the right to
// read it; whoever erases needs the right to write it, and to make a lock file beside it. The error for a
// missing file is [kmsencrypted.ErrConfig].
func OpenReceipts(path string) (Receipts, error) {
	r := &receiptFile{path}
	if _, err := r.Head(context.Background()); err != nil {
		return nil, err
	}
	return r, nil
}

type receiptFile struct{ path string }

// receiptLine is a line of the file. Names are as [Name.String].
type receiptLine struct {
	Number     uint64            `json:"number"` // 0 in the first line
	Previous   string            `json:"previous,omitempty"`
	Store      string            `json:"store"`
	Kind       ReceiptKind       `json:"kind"`
	Branch     string            `json:"branch,omitempty"`
	At         time.Time         `json:"at"`
	Epoch      uint64            `json:"epoch,omitzero"`
	Reason     string            `json:"reason,omitempty"`
	Tables     []rotation.Erased `json:"tables,omitempty"`
	NotReached []string          `json:"not_reached,omitempty"`
	HeadEpoch  uint64            `json:"head_epoch"`
	HeadLimit  uint64            `json:"head_limit,omitzero"`
	HeadBegun  []string          `json:"head_begun,omitempty"`
}

func (l receiptLine) head() (h Head, err error) {
	id, err := hex.DecodeString(l.Store)
	if err != nil || len(id) != len(h.Store) {
		return h, errors.New("no key store")
	}
	h.Store, h.Epoch, h.Limit = ID(id), l.HeadEpoch, l.HeadLimit
	for _, text := range l.HeadBegun {
		n, err := ParseName(text)
		if err != nil {
			return h, err
		}
		h.Begun = append(h.Begun, n)
	}
	return h, nil
}

func (l receiptLine) receipt() (r Receipt, err error) {
	r = Receipt{Number: l.Number, Kind: l.Kind, At: l.At, Epoch: l.Epoch, Reason: l.Reason, Tables: l.Tables, NotReached: l.NotReached}
	if l.Branch != "" {
		r.Name, err = ParseName(l.Branch)
	}
	return r, err
}

func (f *receiptFile) Head(ctx context.Context) (Head, error) {
	if err := ctx.Err(); err != nil {
		return Head{}, err
	}
	file, err := os.Open(f.path)
	if err != nil {
		return Head{}, noReceipts(err)
	}
	defer file.Close()
	text, _, err := lastLine(file)
	if err != nil {
		return Head{}, noReceipts(err)
	}
	line, err := parseLine(text)
	if err != nil {
		return Head{}, err
	}
	h, err := line.head()
	if err != nil {
		return h, fmt.Errorf("branch: %w: receipts: %w", kmsencrypted.ErrMalformed, err)
	}
	return h, nil
}

// lastLine returns the last complete line and the position of its end. What follows was written by
// a process that ended meanwhile.
func lastLine(f *os.File) (text []byte, end int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	for size := int64(4 << 10); ; size *= 2 {
		from := max(0, info.Size()-size)
		tail := make([]byte, info.Size()-from)
		if _, err := f.ReadAt(tail, from); err != nil && err != io.EOF {
			return nil, 0, err
		}
		last := bytes.LastIndexByte(tail, '\n')
		if last >= 0 {
			begin := bytes.LastIndexByte(tail[:last], '\n') + 1
			if begin > 0 || from == 0 {
				return tail[begin:last], from + int64(last) + 1, nil
			}
		}
		if from == 0 || size > 2*maxReceipt {
			return nil, 0, fmt.Errorf("branch: %w: receipts without a line", kmsencrypted.ErrMalformed)
		}
	}
}

func parseLine(text []byte) (l receiptLine, err error) {
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("branch: %w: receipts: %w", kmsencrypted.ErrMalformed, err)
	}
	return l, nil
}

func (f *receiptFile) Append(ctx context.Context, r Receipt) error {
	unlock, err := filelock.Lock(ctx, f.path+".lock")
	if err != nil {
		return noReceipts(err)
	}
	defer unlock()
	file, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return noReceipts(err)
	}
	err = appendTo(file, r)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return noReceipts(err)
	}
	return nil
}

func appendTo(file *os.File, r Receipt) error {
	text, end, err := lastLine(file)
	if err != nil {
		return err
	}
	last, err := parseLine(text)
	if err != nil {
		return err
	}
	head, err := last.head()
	if err != nil {
		return err
	}
	head = head.after(r)
	hash := sha256.Sum256(text)
	line := receiptLine{
		Number: last.Number + 1, Previous: hex.EncodeToString(hash[:]), Store: last.Store, Kind: r.Kind, At: r.At,
		Epoch: r.Epoch, Reason: r.Reason, Tables: r.Tables, NotReached: r.NotReached, HeadEpoch: head.Epoch, HeadLimit: head.Limit,
	}
	if r.Kind != Replayed {
		line.Branch = r.Name.String()
	}
	for _, n := range head.Begun {
		line.HeadBegun = append(line.HeadBegun, n.String())
	}
	next, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if len(next) > mostOf(r.Kind) {
		return fmt.Errorf("%w: a receipt of %d bytes; erase fewer branches at once", kmsencrypted.ErrTooLarge, len(next))
	}
	if err := file.Truncate(end); err != nil {
		return err
	}
	if _, err := file.WriteAt(append(next, '\n'), end); err != nil {
		return err
	}
	return file.Sync()
}

// All yields the receipts, and an error if one was removed or changed.
func (f *receiptFile) All(ctx context.Context) iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		content, err := os.ReadFile(f.path)
		if err != nil {
			yield(Receipt{}, noReceipts(err))
			return
		}
		var previous []byte
		for number := uint64(0); ctx.Err() == nil; number++ {
			text, rest, complete := bytes.Cut(content, []byte("\n"))
			if !complete {
				return
			}
			line, err := parseLine(text)
			hash := sha256.Sum256(previous)
			if err == nil && (line.Number != number || number > 0 && line.Previous != hex.EncodeToString(hash[:])) {
				err = fmt.Errorf("branch: %w: receipt %d does not follow the one before it", kmsencrypted.ErrMalformed, number)
			}
			var r Receipt
			if err == nil {
				r, err = line.receipt()
			}
			if number > 0 || err != nil {
				if !yield(r, err) || err != nil {
					return
				}
			}
			previous, content = text, rest
		}
		if err := ctx.Err(); err != nil {
			yield(Receipt{}, err)
		}
	}
}

// noReceipts returns the kind of an error of the file system. Without its file, nothing tells a
// restored key store from the latest one.
func noReceipts(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("branch: %w: receipts: %w", kmsencrypted.ErrConfig, err)
	case errors.Is(err, kmsencrypted.ErrMalformed), errors.Is(err, kmsencrypted.ErrTooLarge), isCancelled(err):
		return err
	}
	return fmt.Errorf("branch: %w: receipts: %w", kmsencrypted.ErrUnavailable, err)
}

// now is the time for rows and receipts, which keep milliseconds.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
