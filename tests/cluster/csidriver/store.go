package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// volume is what is known of one volume; it lies beside its image as JSON.
type volume struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Bytes      int64  `json:"bytes"`
	FileSystem string `json:"fileSystem"`
	// AttachedTo is the one node that may use a network volume; empty when none may.
	AttachedTo string `json:"attachedTo,omitempty"`
	// ReadOnly is how it is attached.
	ReadOnly bool `json:"readOnly,omitempty"`
}

// store keeps the volumes of a driver in a folder. The instances of a network driver share the
// folder, as they would share a storage array: only the controller writes.
type store struct {
	folder string
	locks  sync.Map
}

var errUnknown = errors.New("there is no such volume")

func openStore(folder string) (*store, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	return &store{folder: folder}, nil
}

// lock lets one call at a time work on a volume; the result unlocks.
func (s *store) lock(id string) func() {
	entry, _ := s.locks.LoadOrStore(id, &sync.Mutex{})
	mutex := entry.(*sync.Mutex)
	mutex.Lock()
	return mutex.Unlock
}

var plainName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// idOf is the id of the volume called name: the name itself where it can be a file's name.
func idOf(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	digest := sha256.Sum256([]byte(name))
	return "sha256-" + hex.EncodeToString(digest[:16])
}

// image is the file that holds the volume's file system.
func (s *store) image(id string) string { return filepath.Join(s.folder, id+".img") }

func (s *store) record(id string) string { return filepath.Join(s.folder, id+".json") }

func (s *store) load(id string) (*volume, error) {
	// An id from elsewhere must not lead out of the folder.
	if !plainName.MatchString(id) {
		return nil, errUnknown
	}
	text, err := os.ReadFile(s.record(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errUnknown
	}
	if err != nil {
		return nil, err
	}
	loaded := &volume{}
	return loaded, json.Unmarshal(text, loaded)
}

// save replaces the record at once: a killed driver leaves the old one or the new one.
func (s *store) save(v *volume) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temporary := s.record(v.ID) + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, s.record(v.ID))
}

// create makes an image without a file system, as a new disk is.
func (s *store) create(v *volume) error {
	file, err := os.OpenFile(s.image(v.ID), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(v.Bytes), file.Close()); err != nil {
		return err
	}
	return s.save(v)
}

func (s *store) remove(id string) error {
	if !plainName.MatchString(id) {
		return nil
	}
	// The record last: while it is there, the call can be repeated.
	for _, path := range []string{s.image(id), s.record(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// list gives the ids of all volumes, in order.
func (s *store) list() ([]string, error) {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, entry := range entries {
		if id, found := strings.CutSuffix(entry.Name(), ".json"); found {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
