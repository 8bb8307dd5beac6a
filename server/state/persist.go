package state

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A snapshot is snapshotMagic, the format's version, then blocks: kind (1 byte), length (4), CRC-32C of kind and content
// (4), content. Content is what encoder writes. Blocks come in the order of their kinds; the last is blockEnd. Equal
// states give equal bytes.
const (
	snapshotMagic   = "BRUMESTATE"
	snapshotVersion = 1
	blockHead       = 1 + 4 + 4

	// blockSize is where a block ends and the next begins: large enough to be written and checked at full speed, small
	// enough that blocks are decoded on all cores.
	blockSize = 256 << 10
	// maxBlock bounds what a damaged length can ask for. One object is at most a Raft entry, far below it.
	maxBlock = 64 << 20
)

const (
	blockMeta     byte = 1
	blockMembers  byte = 2 // hubs, tokens, join tokens
	blockNodeRefs byte = 3
	blockNodes    byte = 4
	blockVersions byte = 5
	blockJobs     byte = 6
	blockEvals    byte = 7
	blockAllocs   byte = 8
	blockEnd      byte = 9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockSum is the checksum of a block.
func blockSum(kind byte, content []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, []byte{kind}), castagnoli, content)
}

// blockWriter writes blocks from an encoder, starting a new one when the present is full.
type blockWriter struct {
	w      io.Writer
	kind   byte
	rows   int // in the present block
	blocks int
	buf    []byte
	encoder
}

// begin ends the present block and begins one of a kind.
func (b *blockWriter) begin(kind byte) error {
	err := b.flush()
	b.kind = kind
	return err
}

// row ends a row of the present block.
func (b *blockWriter) row() error {
	b.rows++
	if len(b.encoder.buf) < blockSize {
		return nil
	}
	return b.flush()
}

// fresh reports whether nothing is in the present block yet.
func (b *blockWriter) fresh() bool { return b.rows == 0 }

func (b *blockWriter) flush() error {
	if b.rows == 0 {
		return nil
	}
	b.buf = append(b.buf[:0], make([]byte, blockHead)...)
	b.buf = b.appendTo(b.buf)
	content := b.buf[blockHead:]
	b.buf[0] = b.kind
	binary.LittleEndian.PutUint32(b.buf[1:], uint32(len(content)))
	binary.LittleEndian.PutUint32(b.buf[5:], blockSum(b.kind, content))
	b.encoder.reset(0)
	b.rows = 0
	b.blocks++
	_, err := b.w.Write(b.buf)
	return err
}

// Persist writes the snapshot. It may run beside anything.
func (s *Snapshot) Persist(w io.Writer) error {
	if _, err := w.Write(append([]byte(snapshotMagic), snapshotVersion)); err != nil {
		return err
	}
	b := &blockWriter{w: w}
	for _, part := range []struct {
		kind  byte
		write func(*blockWriter) error
	}{
		{blockMeta, s.writeMeta}, {blockMembers, s.writeMembers}, {blockNodeRefs, s.writeNodeRefs}, {blockNodes, s.writeNodes},
		{blockVersions, s.writeVersions}, {blockJobs, s.writeJobs}, {blockEvals, s.writeEvals}, {blockAllocs, s.writeAllocs},
		{blockEnd, writeEnd},
	} {
		if err := b.begin(part.kind); err != nil {
			return err
		}
		if err := part.write(b); err != nil {
			return err
		}
	}
	return b.flush()
}

// tableIndexes lists where the tables keep the index of their last change.
func (s *rows) tableIndexes() []*uint64 {
	return []*uint64{&s.jobsAt, &s.summariesAt, &s.clusterAt, &s.jobs.at, &s.versions.at, &s.evals.at, &s.allocs.at, &s.nodes.at,
		&s.nodeRefs.at, &s.joinTokens.at, &s.tokens.at, &s.hubs.at}
}

func (s *Snapshot) writeMeta(b *blockWriter) error {
	b.uint(s.index)
	b.uint(uint64(s.nextOrdinal))
	b.uint(s.bootstrap)
	indexes := s.tableIndexes()
	b.count(len(indexes))
	for _, at := range indexes {
		b.uint(*at)
	}
	b.bool(s.cluster != nil)
	if s.cluster != nil {
		b.cluster(s.cluster)
	}
	return b.row()
}

func (s *Snapshot) writeMembers(b *blockWriter) error {
	b.count(s.hubs.len())
	for h := range s.hubs.from(0, nil) {
		if err := h.encode(&b.encoder); err != nil {
			return err
		}
	}
	b.count(s.tokens.len())
	for k := range s.tokens.from(0, nil) {
		b.token(k)
	}
	b.count(s.joinTokens.len())
	for k := range s.joinTokens.from(0, nil) {
		if err := b.object(k); err != nil {
			return err
		}
	}
	return b.row()
}

func (s *Snapshot) writeNodeRefs(b *blockWriter) error {
	for r := range s.nodeRefs.from(0, nil) {
		b.uint(uint64(r.ordinal))
		b.text(r.id)
		b.text(r.name)
		b.text(r.ip)
		if err := b.row(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) writeNodes(b *blockWriter) error {
	for n := range s.nodes.from(nodesByID, nil) {
		if err := b.object(n); err != nil {
			return err
		}
		if err := b.row(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) writeVersions(b *blockWriter) error {
	for r := range s.versions.from(0, nil) {
		if err := b.object(r.version.job); err != nil {
			return err
		}
		b.count(r.refs)
		if err := b.row(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) writeJobs(b *blockWriter) error {
	for r := range s.jobs.from(0, nil) {
		b.jobRow(r)
		if err := b.row(); err != nil {
			return err
		}
	}
	return nil
}

// jobRow writes a job by reference to its version, with what its own row adds to that.
func (e *encoder) jobRow(r *jobRow) {
	e.jobRef(RefOf(r.version.job))
	e.text(r.job.Status)
	e.bool(r.job.Stable)
	e.uint(r.job.ModifyIndex)
	e.count(r.live)
	e.count(r.open)
	e.uint(r.summaryIndex)
	e.uint(r.allocsIndex)
	e.uint(r.evalsIndex)
	e.count(len(r.groups))
	for i := range r.groups {
		g := &r.groups[i]
		e.text(g.name)
		for _, n := range g.numbers() {
			e.int(int64(*n))
		}
	}
}

func (g *groupCount) numbers() [8]*int {
	return [8]*int{&g.healthy, &g.Queued, &g.Complete, &g.Failed, &g.Running, &g.Starting, &g.Lost, &g.Unknown}
}

func (s *Snapshot) writeEvals(b *blockWriter) error {
	for e := range s.evals.from(evalsByID, nil) {
		if err := b.object(e); err != nil {
			return err
		}
		if err := b.row(); err != nil {
			return err
		}
	}
	return nil
}

// run is what consecutive rows of a block have in common.
type run struct {
	version *version
	origin  *origin
	group   uint16
}

// Flags of an allocation in a snapshot.
const (
	rowNewRun = 1 << iota
	rowExtra
	rowClient
)

// writeAllocs writes the allocations in the order of jobs and placement, so that neighbours have most in common.
func (s *Snapshot) writeAllocs(b *blockWriter) error {
	var last run
	var nextSeq, nextIndex uint32
	for r := range s.allocs.from(allocsByJob, nil) {
		now := run{r.version, r.origin, r.group}
		fresh := b.fresh() || now != last
		b.byte(flag(fresh, rowNewRun) | flag(r.extra != nil, rowExtra) | flag(r.client != nil, rowClient))
		if fresh {
			if err := b.run(now); err != nil {
				return err
			}
			last, nextSeq, nextIndex = now, 0, 0
		}
		b.uint(uint64(r.seq - nextSeq))
		b.int(int64(r.index) - int64(nextIndex))
		nextSeq, nextIndex = r.seq+1, r.index+1
		if err := b.alloc(r); err != nil {
			return fmt.Errorf("allocation %s: %w", r.id, err)
		}
		if err := b.row(); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) run(r run) error {
	e.jobRef(RefOf(r.version.job))
	e.uint(uint64(r.group))
	o := r.origin
	e.text(o.evalID)
	e.uint(o.index)
	e.uint(uint64(o.seq))
	e.int(o.time)
	e.buf = append(e.buf, o.seed[:]...)
	e.time = o.time
	return e.metric(o.metric)
}

func (e *encoder) alloc(r *Row) error {
	e.id(r.id)
	e.uint(uint64(r.node))
	e.byte(byte(r.desired)<<4 | byte(r.status))
	e.uint(r.modifyIndex - r.origin.index)
	e.uint(r.allocModifyIndex - r.origin.index)
	e.since(r.modifyTime)
	e.count(len(r.ports))
	for _, p := range r.ports {
		e.int(int64(p) - basePort)
	}
	if x := r.extra; x != nil {
		e.text(x.description)
		e.text(x.clientDescription)
		e.id(x.previous)
		e.id(x.next)
		e.text(x.followup)
		e.bool(x.stopRequested)
		if err := e.tracker(x.tracker); err != nil {
			return err
		}
	}
	if c := r.client; c != nil {
		e.text(c.description)
		e.byte(byte(c.healthy))
		e.int(c.healthTime)
		e.uint(c.healthIndex)
		e.count(len(c.tasks))
		for i := range c.tasks {
			e.task(&taskReport{taskState: c.tasks[i]})
		}
	}
	return nil
}

// writeEnd says how many blocks there were.
func writeEnd(b *blockWriter) error {
	b.count(b.blocks)
	return b.row()
}
