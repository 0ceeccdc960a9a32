package apiserver

import (
	"strings"
	"sync"
	"unicode"

	"canopus/internal/apiserver/patch"
	"canopus/internal/kinds"
)

// ownersCache holds what keeps managedFields of each kind, version and subresource. It belongs to one catalog.
type ownersCache struct {
	mu   sync.RWMutex
	made map[ownersKey]*patch.Owners
}

type ownersKey struct {
	ep  *endpoint
	sub string
}

// owners returns what keeps the managers of the fields that ep and sub write.
func (s *Server) owners(ep *endpoint, sub string) (*patch.Owners, error) {
	c := s.served.Load()
	key := ownersKey{ep, sub}
	c.owners.mu.RLock()
	o := c.owners.made[key]
	c.owners.mu.RUnlock()
	if o != nil {
		return o, nil
	}
	o, err := patch.NewOwners(patch.OwnersConfig{Schemas: s.schemas, Versions: c.set, Served: ep.Served, Subresource: sub})
	if err != nil {
		return nil, err
	}
	c.owners.mu.Lock()
	defer c.owners.mu.Unlock()
	if c.owners.made == nil {
		c.owners.made = map[ownersKey]*patch.Owners{}
	}
	c.owners.made[key] = o
	return o, nil
}

// own records in obj who set its fields. That it cannot is logged and no reason to refuse the write.
func (s *Server) own(rq *request, ep *endpoint, old, obj kinds.Object, manager string) error {
	o, err := s.owners(ep, rq.route.subresource)
	if err != nil {
		return err
	}
	if manager == "" {
		manager = managerOf(rq.UserAgent())
	}
	if old == nil {
		err = o.Create(obj, manager)
	} else {
		err = o.Update(old, obj, manager)
	}
	if err != nil {
		s.log.Warn("field managers not recorded", "path", rq.URL.Path, "manager", manager, "error", err)
	}
	return nil
}

// maxManager is the longest name of a field manager.
const maxManager = 128

// managerOf is the manager of a client that names none: its user agent up to the first slash.
func managerOf(agent string) string {
	name, _, _ := strings.Cut(agent, "/")
	var b strings.Builder
	for _, r := range name {
		if !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+len(string(r)) > maxManager {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
