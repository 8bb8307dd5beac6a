package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/brumehq/brume/api"
)

// Restore replaces the state by a snapshot and wakes every watch. It fails, changing nothing, with an *UnsupportedError if
// the snapshot was written by another release in a form that this one does not know, and with an error that says where if
// it is cut off or damaged.
func (s *Store) Restore(r io.Reader) error {
	rows, err := readSnapshot(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.rows = rows
	s.publishAll()
	s.mu.Unlock()
	s.watches.wakeAll()
	return nil
}

// blockReader reads what blockWriter wrote.
type blockReader struct {
	r    io.Reader
	read int64 // bytes of whole blocks so far
}

func (b *blockReader) head() error {
	head := make([]byte, len(snapshotMagic)+1)
	n, err := io.ReadFull(b.r, head)
	if err != nil {
		return cutOff(err, int64(n))
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return errors.New("this is no snapshot")
	}
	if v := head[len(snapshotMagic)]; v != snapshotVersion {
		return &UnsupportedError{"snapshot", fmt.Sprintf("format %d, this hub knows %d", v, snapshotVersion)}
	}
	b.read = int64(n)
	return nil
}

func cutOff(err error, at int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("snapshot is cut off after %d bytes", at)
	}
	return err
}

func damaged(at int64, err error) error {
	return fmt.Errorf("snapshot is damaged in the block at byte %d: %w", at, err)
}

// block is one block as read, its checksum verified.
type block struct {
	kind    byte
	at      int64
	content []byte
}

func (b *blockReader) next() (block, error) {
	var head [blockHead]byte
	n, err := io.ReadFull(b.r, head[:])
	if err != nil {
		return block{}, cutOff(err, b.read+int64(n))
	}
	size := binary.LittleEndian.Uint32(head[1:])
	if size > maxBlock {
		return block{}, damaged(b.read, fmt.Errorf("it would have %d bytes", size))
	}
	var content bytes.Buffer // grows with what is there, not with what a damaged length says
	copied, err := io.CopyN(&content, b.r, int64(size))
	if err != nil {
		return block{}, cutOff(err, b.read+blockHead+copied)
	}
	out := block{head[0], b.read, content.Bytes()}
	if blockSum(out.kind, out.content) != binary.LittleEndian.Uint32(head[5:]) {
		return block{}, damaged(b.read, errors.New("checksum differs"))
	}
	b.read += blockHead + int64(size)
	return out, nil
}

// restorer fills rows from blocks. Blocks of allocations are decoded on all cores once the versions that they refer to are
// known.
type restorer struct {
	*rows
	lastKind byte
	blocks   int
	byRef    map[JobRef]*version
	work     errgroup.Group
	allocs   []*[]*Row // in the order of the blocks
}

func readSnapshot(r io.Reader) (*rows, error) {
	in := &blockReader{r: r}
	if err := in.head(); err != nil {
		return nil, err
	}
	s := &restorer{rows: newRows(), byRef: make(map[JobRef]*version)}
	s.work.SetLimit(runtime.GOMAXPROCS(0))
	err := s.readBlocks(in)
	if werr := s.work.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return nil, err
	}
	if err := s.loadAllocs(); err != nil {
		return nil, fmt.Errorf("snapshot is damaged: %w", err)
	}
	return s.rows, nil
}

func (s *restorer) readBlocks(in *blockReader) error {
	for {
		b, err := in.next()
		if err != nil {
			return err
		}
		if b.kind < s.lastKind {
			return damaged(b.at, fmt.Errorf("kind %d after %d", b.kind, s.lastKind))
		}
		s.lastKind = b.kind
		if b.kind == blockAllocs {
			s.startAllocs(b)
		} else if err := s.block(b); err != nil {
			return damaged(b.at, err)
		}
		if b.kind == blockEnd {
			return nil
		}
		s.blocks++
	}
}

// block decodes a block that is not one of allocations.
func (s *restorer) block(b block) error {
	d := newDecoder(b.content, 0)
	switch b.kind {
	case blockMeta:
		s.meta(d)
	case blockMembers:
		s.members(d)
	case blockNodeRefs:
		for d.more() {
			s.nodeRefs.put(s.nodeRefs.at, &nodeRef{ordinal: uint32(d.limited(1 << 32)), id: d.text(), name: d.text(), ip: d.text()})
		}
	case blockNodes:
		for d.more() {
			n := d.node()
			s.nodes.put(s.nodes.at, n)
		}
	case blockVersions:
		for d.more() {
			s.version(d)
		}
	case blockJobs:
		for d.more() {
			s.jobRow(d)
		}
	case blockEvals:
		for d.more() {
			e := new(api.Evaluation)
			d.object(e)
			s.evals.put(s.evals.at, e)
		}
	case blockEnd:
		if n := d.uint(); d.err == nil && n != uint64(s.blocks) {
			d.fail(fmt.Errorf("there are %d blocks and should be %d", s.blocks, n))
		}
	default:
		d.fail(fmt.Errorf("unknown kind %d", b.kind))
	}
	return d.end()
}

// more reports whether there is another row.
func (d *decoder) more() bool { return d.err == nil && len(d.buf) > 0 }

func (s *restorer) meta(d *decoder) {
	s.index = d.uint()
	s.nextOrdinal = uint32(d.limited(1 << 32))
	s.bootstrap = d.uint()
	indexes := s.tableIndexes()
	if n := d.count(1); n != len(indexes) {
		d.fail(fmt.Errorf("%d table indexes", n))
	}
	for _, at := range indexes {
		*at = d.uint()
	}
	if d.bool() {
		c := d.cluster()
		s.cluster = &c
	}
}

func (s *restorer) members(d *decoder) {
	for range d.count(1) {
		h := d.hubVersions()
		s.hubs.put(s.hubs.at, &h)
	}
	for range d.count(1) {
		k := d.token()
		s.tokens.put(s.tokens.at, &k)
	}
	for range d.count(1) {
		k := d.joinToken()
		s.joinTokens.put(s.joinTokens.at, k)
	}
}

func (s *restorer) version(d *decoder) {
	j := new(api.Job)
	d.job(j)
	refs := d.limited(1 << 40)
	if d.err != nil {
		return
	}
	v := newVersion(j)
	s.byRef[RefOf(j)] = v
	s.versions.put(s.versions.at, &versionRow{version: v, refs: int(refs)})
}

func (s *restorer) jobRow(d *decoder) {
	ref := d.jobRef()
	v := s.byRef[ref]
	if v == nil {
		d.fail(fmt.Errorf("job %s/%s: version %d is missing", ref.Namespace, ref.ID, ref.Version))
		return
	}
	j := *v.job
	j.Status, j.Stable, j.ModifyIndex = d.text(), d.bool(), d.uint()
	r := &jobRow{job: v.job, version: v, live: int(d.limited(1 << 40)), open: int(d.limited(1 << 40)),
		summaryIndex: d.uint(), allocsIndex: d.uint(), evalsIndex: d.uint()}
	if j.Status != v.job.Status || j.Stable != v.job.Stable || j.ModifyIndex != v.job.ModifyIndex {
		r.job = &j
	}
	for range d.count(9) {
		g := groupCount{name: d.text()}
		for _, n := range g.numbers() {
			*n = int(d.int())
		}
		r.groups = append(r.groups, g)
	}
	if d.err == nil {
		s.jobs.put(s.jobs.at, r)
	}
}

// startAllocs decodes a block of allocations beside others.
func (s *restorer) startAllocs(b block) {
	rows := new([]*Row)
	s.allocs = append(s.allocs, rows)
	s.work.Go(func() error {
		d := newDecoder(b.content, 0)
		*rows = d.allocs(s.byRef)
		if err := d.end(); err != nil {
			return damaged(b.at, err)
		}
		return nil
	})
}

func (d *decoder) allocs(byRef map[JobRef]*version) []*Row {
	var rows []*Row
	var now run
	var nextSeq, nextIndex uint32
	for d.more() {
		flags := d.byte()
		if flags&rowNewRun != 0 {
			now = d.run(byRef)
			nextSeq, nextIndex = 0, 0
		}
		if now.origin == nil {
			d.fail(errors.New("an allocation without placement"))
			return nil
		}
		r := &Row{version: now.version, origin: now.origin, group: now.group}
		r.seq = nextSeq + uint32(d.limited(1<<31))
		r.index = uint32(int64(nextIndex) + d.int())
		nextSeq, nextIndex = r.seq+1, r.index+1
		d.alloc(r, flags)
		rows = append(rows, r)
	}
	return rows
}

func (d *decoder) run(byRef map[JobRef]*version) run {
	ref := d.jobRef()
	v := byRef[ref]
	if v == nil {
		d.fail(fmt.Errorf("allocation of job %s/%s: version %d is missing", ref.Namespace, ref.ID, ref.Version))
		return run{}
	}
	group := d.limited(uint64(len(v.job.TaskGroups)))
	o := &origin{evalID: d.text(), index: d.uint(), seq: uint32(d.limited(1 << 32)), time: d.int()}
	copy(o.seed[:], d.take(len(o.seed)))
	d.time = o.time
	o.metric = d.metric()
	return run{v, o, uint16(group)}
}

func (d *decoder) alloc(r *Row, flags byte) {
	r.id = d.id()
	r.node = uint32(d.limited(1 << 32))
	b := d.byte()
	r.desired, r.status = status(b>>4), status(b&15)
	if r.desired == 0 || int(r.desired) >= len(desiredNames) || r.status == 0 || int(r.status) >= len(clientNames) {
		d.fail(fmt.Errorf("allocation %s: status %d", r.id, b))
		return
	}
	r.modifyIndex, r.allocModifyIndex = r.origin.index+d.uint(), r.origin.index+d.uint()
	r.modifyTime = d.since()
	if n := d.count(1); n > 0 {
		r.ports = make([]uint16, n)
	}
	for i := range r.ports {
		r.ports[i] = d.port()
	}
	if flags&rowExtra != 0 {
		r.extra = &extra{description: d.text(), clientDescription: d.text(), previous: d.id(), next: d.id(), followup: d.text(),
			stopRequested: d.bool(), tracker: d.tracker()}
	}
	if flags&rowClient != 0 {
		c := &clientState{description: d.text(), healthy: health(d.limited(uint64(healthBad) + 1)), healthTime: d.int(), healthIndex: d.uint()}
		n := d.count(3)
		if n > 0 {
			c.tasks = make([]taskState, 0, n)
		}
		for range n {
			t := d.task()
			t.name = sharedName(r.TaskGroup(), t.name)
			c.tasks = append(c.tasks, t.taskState)
		}
		r.client = c
	}
}

// loadAllocs builds the indexes of the allocations beside each other, each from rows in its order.
func (s *restorer) loadAllocs() error {
	n := 0
	for _, rows := range s.allocs {
		n += len(*rows)
	}
	byJob := make([]*Row, 0, n)
	for _, rows := range s.allocs {
		byJob = append(byJob, *rows...)
	}
	table := s.rows.allocs
	var work errgroup.Group
	for i := range table.orders {
		work.Go(func() error { return table.loadSorted(i, byJob) })
	}
	return work.Wait()
}

// loadSorted fills an empty table's key n from rows in any order, which it leaves as they are.
func (t *table[R]) loadSorted(n int, rows []*R) error {
	o := t.orders[n]
	items := make([]item[R], len(rows))
	for i, r := range rows {
		items[i] = o.item(r)
	}
	compare := func(a, b item[R]) int {
		switch {
		case o.itemLess(a, b):
			return -1
		case o.itemLess(b, a):
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(items, compare) {
		slices.SortFunc(items, compare)
	}
	for i := range items {
		if i > 0 && !o.itemLess(items[i-1], items[i]) {
			return errors.New("two rows have the same key")
		}
		t.trees[n].Load(items[i])
	}
	return nil
}
