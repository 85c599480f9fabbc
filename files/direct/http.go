package direct

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"strconv"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/files/attach"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
)

// errRequest reports a request that no client of ours makes.
var errRequest = errors.New("direct: malformed request")

// statuses maps errors to answers. What the program's own functions return is in it too.
var statuses = []struct {
	err    error
	status int
}{
	{errRequest, http.StatusBadRequest},
	{serve.ErrUnauthorized, http.StatusUnauthorized},
	{serve.ErrForbidden, http.StatusForbidden},
	{fs.ErrPermission, http.StatusForbidden},
	{ErrToken, http.StatusForbidden},
	{ErrExpired, http.StatusGone},
	{attach.ErrAbandoned, http.StatusGone},
	{attach.ErrSize, http.StatusRequestEntityTooLarge},
	{kmsencrypted.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{attach.ErrPartChanged, http.StatusConflict},
	{attach.ErrPartMissing, http.StatusConflict},
	{kmsencrypted.ErrConflict, http.StatusConflict},
	{fs.ErrNotExist, http.StatusNotFound},
}

// maxQuestion is the limit of a request that is no part, in bytes.
const maxQuestion = 16 << 10

// request is one with a valid token.
type request[R any] struct {
	*http.Request
	grant  Grant[R]
	upload *attach.PartUpload
	part   int
}

// ServeHTTP implements [http.Handler]: see the package comment.
func (h *Uploads[R]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if h == nil || h.manager == nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	status, answer, err := h.answer(w, r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer) // an error means that the client went away
}

func (h *Uploads[R]) answer(w http.ResponseWriter, r *http.Request) (status int, answer any, err error) {
	g, err := h.authorize(r)
	if err != nil {
		return 0, nil, err
	}
	text := r.Header.Get("Upload-Token")
	if text == "" && r.Method == http.MethodPost {
		answer, err = h.serveBegin(w, r, g)
		return http.StatusCreated, answer, err
	}
	u, err := h.verify(r.Context(), g, text)
	if err != nil {
		return 0, nil, err
	}
	in := request[R]{Request: r, grant: g, upload: u}
	query := r.URL.Query()
	if query.Has("part") {
		if in.part, err = strconv.Atoi(query.Get("part")); err != nil || in.part < 1 || in.part > u.Parts() {
			return 0, nil, errRequest
		}
	}
	switch {
	case r.Method == http.MethodGet:
		missing, err := h.manager.MissingParts(r.Context(), u)
		return http.StatusOK, map[string][]int{"missing": append([]int{}, missing...)}, err
	case r.Method == http.MethodDelete:
		return 0, nil, h.manager.DiscardParts(r.Context(), u)
	case r.Method == http.MethodPut && in.part > 0:
		return 0, nil, h.servePart(w, in)
	case r.Method == http.MethodPost && in.part > 0:
		answer, err = h.serveURL(w, in)
	case r.Method == http.MethodPost && query.Has("finish"):
		answer, err = h.serveFinish(in)
	default:
		err = errRequest
	}
	return http.StatusOK, answer, err
}

// plan is the answer to the beginning. Bytes are in base64.
type plan struct {
	Token    string `json:"token"`
	Size     int64  `json:"size"`
	PartSize int64  `json:"partSize"`
	Parts    int    `json:"parts"`

	// Only if the browser seals the file.
	Prefix []byte `json:"prefix,omitempty"`
	Key    []byte `json:"key,omitempty"`
	Nonce  []byte `json:"nonce,omitempty"`
}

func (h *Uploads[R]) serveBegin(w http.ResponseWriter, r *http.Request, g Grant[R]) (any, error) {
	var file struct {
		Name, Type string
		Size       *int64
	}
	if err := question(w, r, &file); err != nil {
		return nil, err
	}
	if file.Size == nil || *file.Size < 0 {
		return nil, errRequest
	}
	u, key, token, err := h.begin(r.Context(), g, attach.Options{Name: file.Name, ContentType: file.Type, Size: *file.Size})
	defer key.Wipe()
	if err != nil {
		return nil, err
	}
	p := plan{Token: token, Size: u.Size, PartSize: u.PartSize, Parts: u.Parts()}
	if !h.options.Through && h.manager.SignsParts(u.Bucket) {
		p.Prefix, p.Key, p.Nonce = key.Raw()
	}
	return p, nil
}

// question reads JSON, which a page of another origin cannot send without permission.
func question(w http.ResponseWriter, r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return errRequest
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion)).Decode(into); err != nil {
		return errRequest
	}
	return nil
}

// servePart takes a part that this program seals.
func (h *Uploads[R]) servePart(w http.ResponseWriter, r request[R]) error {
	size := r.upload.PartLength(r.part)
	if r.ContentLength >= 0 && r.ContentLength != size {
		return attach.ErrSize
	}
	content := make([]byte, size+1)
	defer clear(content)
	n, err := io.ReadFull(r.Body, content)
	if err == nil {
		return attach.ErrSize
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: %w", errRequest, err) // the client went away
	}
	return h.manager.SealPart(r.Context(), r.grant.Row, r.upload, r.part, content[:n])
}

// serveURL tells where to put a part that the browser has sealed.
func (h *Uploads[R]) serveURL(w http.ResponseWriter, r request[R]) (any, error) {
	var part struct{ SHA256 string }
	if err := question(w, r.Request, &part); err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(part.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return nil, errRequest
	}
	url, header, err := h.manager.SignPart(r.Context(), r.upload, r.part, [sha256.Size]byte(sum))
	if err != nil {
		return nil, err
	}
	headers := make(map[string]string)
	for name := range header {
		headers[name] = header.Get(name)
	}
	return map[string]any{"url": url, "headers": headers}, nil
}

func (h *Uploads[R]) serveFinish(r request[R]) (any, error) {
	a, err := h.finish(r.Context(), r.grant, r.upload)
	if err != nil {
		return nil, err
	}
	return map[string]any{"id": a.ID, "name": a.FileName, "type": a.ContentType, "size": a.Size}, nil
}

func (h *Uploads[R]) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	if kmsencrypted.Retryable(err) || errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		status = http.StatusServiceUnavailable
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			status = s.status
			break
		}
	}
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		h.options.Logger.ErrorContext(r.Context(), "upload failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	http.Error(w, http.StatusText(status), status)
}
