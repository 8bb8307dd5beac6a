package state

import (
	"fmt"

	"github.com/brumehq/brume/api"
)

// Cluster is what makes hubs and agents one cluster. Secrets are sealed by the cluster key, which is never here.
type Cluster struct {
	ID          string
	Region      string
	CACert      []byte // PEM
	SealedCAKey []byte
	SealedKeys  []byte // gossip key and what else members share, sealed; the server knows its form
	CreateTime  int64  // unix nanoseconds
	CreateIndex uint64
}

// ClusterMeta makes the cluster; time and index are filled. A cluster that is made already is refused with
// api.ErrConflict. There is no result.
type ClusterMeta struct{ Cluster Cluster }

func (c ClusterMeta) kind() kind { return kindClusterMeta }

func (c ClusterMeta) encode(e *encoder) error {
	e.cluster(&c.Cluster)
	return c.Cluster.check()
}

func (c *Cluster) check() error {
	if c.ID == "" {
		return fmt.Errorf("cluster without id: %w", api.ErrInvalid)
	}
	return nil
}

func (e *encoder) cluster(c *Cluster) {
	e.text(c.ID)
	e.text(c.Region)
	e.bytes(c.CACert)
	e.bytes(c.SealedCAKey)
	e.bytes(c.SealedKeys)
	e.int(c.CreateTime)
	e.uint(c.CreateIndex)
}

func (d *decoder) cluster() Cluster {
	c := Cluster{ID: d.text(), Region: d.text(), CACert: d.bytes(), SealedCAKey: d.bytes(), SealedKeys: d.bytes(),
		CreateTime: d.int(), CreateIndex: d.uint()}
	d.check(c.check())
	return c
}

func decodeClusterMeta(d *decoder) Command { return ClusterMeta{d.cluster()} }

func (c ClusterMeta) apply(t *txn) (any, error) {
	if t.cluster != nil {
		return nil, fmt.Errorf("cluster %s is made already: %w", t.cluster.ID, api.ErrConflict)
	}
	c.Cluster.CreateTime, c.Cluster.CreateIndex = t.time, t.index
	t.rows.cluster, t.clusterAt = &c.Cluster, t.index
	t.touch(TableKey(ClusterTable))
	return nil, nil
}

// HubVersions says which command versions a hub reads; what it says later replaces it. There is no result.
type HubVersions struct {
	ID      string // node id of the hub
	Name    string
	Min     uint8
	Max     uint8
	Release string // of the program
	Gone    bool   // the hub left: forget it
}

func newHubs() *table[HubVersions] {
	return newTable(order[HubVersions]{less: func(a, b *HubVersions) bool { return a.ID < b.ID }})
}

func (c HubVersions) kind() kind { return kindHubVersions }

func (c HubVersions) encode(e *encoder) error {
	e.text(c.ID)
	e.text(c.Name)
	e.byte(c.Min)
	e.byte(c.Max)
	e.text(c.Release)
	e.bool(c.Gone)
	return c.check()
}

func (c HubVersions) check() error {
	if c.ID == "" {
		return fmt.Errorf("hub without id: %w", api.ErrInvalid)
	}
	return nil
}

func (d *decoder) hubVersions() HubVersions {
	c := HubVersions{ID: d.text(), Name: d.text(), Min: d.byte(), Max: d.byte(), Release: d.text(), Gone: d.bool()}
	d.check(c.check())
	return c
}

func decodeHubVersions(d *decoder) Command { return d.hubVersions() }

func (c HubVersions) apply(t *txn) (any, error) {
	if old := t.hubs.get(&c); old != nil && *old == c || old == nil && c.Gone {
		return nil, nil
	}
	if c.Gone {
		t.hubs.remove(t.index, &c)
	} else {
		t.hubs.put(t.index, &c)
	}
	t.clusterAt = t.index
	t.touch(TableKey(ClusterTable))
	return nil, nil
}
