package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/brumehq/brume/plugins"
	"github.com/brumehq/brume/plugins/fake"
)

// Ledger is what really runs on all machines, whatever hubs and agents believe. It is safe for use by many goroutines.
type Ledger struct {
	mu       sync.Mutex
	drivers  []*Driver
	starts   []Run
	places   map[string][]*Driver // allocation/task -> where it was started
	breaches []string
	onStart  func(started Run, running []Run)
}

// Run is one run of one task.
type Run struct {
	Node    string
	Started time.Time
	*plugins.TaskConfig
}

func newLedger() *Ledger { return &Ledger{places: make(map[string][]*Driver)} }

func (l *Ledger) driver(node string) *Driver {
	d := &Driver{Driver: fake.New(), node: node, ledger: l, runs: make(map[string]Run)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drivers = append(l.drivers, d)
	return d
}

// OnStart calls f at every start of a task, before anything else starts, with all that runs then, the new run included.
func (l *Ledger) OnStart(f func(started Run, running []Run)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onStart = f
}

// Running lists what runs now, in order of start.
func (l *Ledger) Running() []Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running()
}

func (l *Ledger) running() []Run {
	var all []Run
	for _, d := range l.drivers {
		all = append(all, d.alive()...)
	}
	slices.SortStableFunc(all, func(a, b Run) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Starts lists every run there was, in order.
func (l *Ledger) Starts() []Run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.starts)
}

// Breaches lists how the rules of all clusters were broken: an allocation's task ran twice at once.
func (l *Ledger) Breaches() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.breaches)
}

// began notes a run that has just started.
func (l *Ledger) began(d *Driver, r Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starts = append(l.starts, r)
	task := r.AllocID + "/" + r.Name
	if !slices.Contains(l.places[task], d) {
		l.places[task] = append(l.places[task], d)
	}
	for _, place := range l.places[task] {
		for _, other := range place.alive() {
			if other.AllocID == r.AllocID && other.Name == r.Name && other.ID != r.ID {
				l.breaches = append(l.breaches, fmt.Sprintf("allocation %s: task %s started on %s while it ran on %s",
					r.AllocID, r.Name, r.Node, other.Node))
			}
		}
	}
	if l.onStart != nil {
		l.onStart(r, l.running())
	}
}

// Driver is the fake driver of one machine, which keeps the ledger. It outlives the agent, as the processes do that it
// stands for.
type Driver struct {
	*fake.Driver
	node   string
	ledger *Ledger

	mu   sync.Mutex
	runs map[string]Run // by task id, until it is destroyed
}

// Start is plugins.Driver's.
func (d *Driver) Start(ctx context.Context, task *plugins.TaskConfig) (*plugins.TaskHandle, *plugins.NetworkOverride, error) {
	handle, network, err := d.Driver.Start(ctx, task)
	if err != nil {
		return nil, nil, err
	}
	r := Run{Node: d.node, Started: time.Now(), TaskConfig: task}
	d.mu.Lock()
	d.runs[task.ID] = r
	d.mu.Unlock()
	d.ledger.began(d, r)
	return handle, network, nil
}

// Destroy is plugins.Driver's.
func (d *Driver) Destroy(ctx context.Context, id string, force bool) error {
	err := d.Driver.Destroy(ctx, id, force)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.runs, id)
	}
	return err
}

// Running lists what runs on this machine now, in order of start.
func (d *Driver) Running() []Run {
	all := d.alive()
	slices.SortFunc(all, func(a, b Run) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return all
}

func (d *Driver) alive() []Run {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Run
	for id, r := range d.runs {
		if s, err := d.Inspect(context.Background(), id); err == nil && s.State == plugins.TaskStateRunning {
			all = append(all, r)
		}
	}
	return all
}
