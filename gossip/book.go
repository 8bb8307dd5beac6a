package gossip

import (
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Kind is what happened to a member.
type Kind int

// The kinds of event. A member that is leaving makes an Update.
const (
	Join Kind = iota + 1
	Leave
	Update
	Failed
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Join:
		return "join"
	case Leave:
		return "leave"
	case Update:
		return "update"
	case Failed:
		return "failed"
	}
	return "none"
}

// Event is a change of another member. It is a hint and no proof: whoever holds the gossip key can cause it.
type Event struct {
	Kind   Kind
	Member Member
}

// book keeps who is in the pool, from what memberlist notifies, and passes changes on. memberlist holds its lock while
// it notifies, so nothing here waits.
type book struct {
	self   string
	events chan Event
	wake   chan struct{} // holds one token while there may be something to pass on
	done   chan struct{}
	pump   sync.WaitGroup
	once   sync.Once

	mu      sync.Mutex
	members map[string]Member
	pending map[string]Event // not passed on yet, one for each member
	order   []string         // of pending
}

func newBook(self string) *book {
	return &book{
		self:    self,
		events:  make(chan Event),
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		members: make(map[string]Member),
		pending: make(map[string]Event),
	}
}

// run passes events on until stop.
func (b *book) run() {
	b.pump.Go(func() {
		defer close(b.events)
		for {
			e, ok := b.next()
			if !ok {
				select {
				case <-b.wake:
					continue
				case <-b.done:
					return
				}
			}
			select {
			case b.events <- e:
			case <-b.done:
				return
			}
		}
	})
}

func (b *book) stop() {
	b.once.Do(func() { close(b.done) })
	b.pump.Wait()
}

func (b *book) next() (Event, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.order) == 0 {
		return Event{}, false
	}
	name := b.order[0]
	b.order = b.order[1:]
	e := b.pending[name]
	delete(b.pending, name)
	return e, true
}

func (b *book) all() iter.Seq[Member] {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Values(slices.Collect(maps.Values(b.members)))
}

// says tells whether this member is known by these words.
func (b *book) says(m Meta, leaving bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	self := b.members[b.self]
	return self.Meta == m && (self.Status == StatusLeaving) == leaving
}

// NotifyJoin is memberlist's.
func (b *book) NotifyJoin(n *memberlist.Node) { b.note(Join, n) }

// NotifyUpdate is memberlist's.
func (b *book) NotifyUpdate(n *memberlist.Node) { b.note(Update, n) }

// NotifyLeave is memberlist's; a member that did not say that it is leaving has failed.
func (b *book) NotifyLeave(n *memberlist.Node) { b.note(Failed, n) }

func (b *book) note(kind Kind, n *memberlist.Node) {
	meta, leaving, err := decodeMeta(n.Meta)
	if err != nil {
		meta = Meta{}
	}
	m := Member{Name: n.Name, Addr: n.Address(), Meta: meta, Alive: true, Status: StatusAlive, Since: time.Now()}
	switch {
	case kind == Failed && leaving:
		kind, m.Alive, m.Status = Leave, false, StatusLeft
	case kind == Failed:
		m.Alive, m.Status = false, StatusFailed
	case leaving:
		m.Status = StatusLeaving
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.members[n.Name] = m
	if !m.Alive {
		maps.DeleteFunc(b.members, func(_ string, m Member) bool {
			return !m.Alive && time.Since(m.Since) > keepGone
		})
	}
	if n.Name == b.self {
		return
	}
	if _, ok := b.pending[n.Name]; !ok {
		b.order = append(b.order, n.Name)
	}
	b.pending[n.Name] = Event{Kind: kind, Member: m}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// logWriter makes memberlist's lines debug records: what an operator needs of them is in Events.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	severity := ""
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if s, t, ok := strings.Cut(rest, "] "); ok {
			severity, text = strings.ToLower(s), strings.TrimPrefix(t, "memberlist: ")
		}
	}
	w.log.Debug("memberlist", "severity", severity, "text", text)
	return len(p), nil
}
