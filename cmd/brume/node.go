package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brumehq/brume/api"
	"github.com/brumehq/brume/api/client"
)

func hostPort(p api.PortMapping) string { return net.JoinHostPort(p.HostIP, strconv.Itoa(p.Value)) }

func (c *cli) nodeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Look at the machines"}
	cmd.AddCommand(&cobra.Command{
		Use:               "status [NODE]",
		Short:             "List machines, or show one: what it is, what it has left, its drivers, what runs on it",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.complete(nodeIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return c.listNodes(cmd.Context(), cl)
			}
			return c.showNode(cmd.Context(), cl, args[0])
		},
	})
	return cmd
}

func (c *cli) listNodes(ctx context.Context, cl *client.Client) error {
	nodes, _, err := cl.Nodes(ctx, client.Query{Params: map[string]string{"resources": "true", "os": "true"}})
	if err != nil {
		return err
	}
	if c.output == outputJSON {
		return c.printJSON(nodes)
	}
	if len(nodes) == 0 {
		c.printf("No nodes. \"brume join-token create --role agent\" makes a token with which a machine joins.\n")
		return nil
	}
	head := []string{"ID", "NAME", "STATUS", "ELIGIBLE", "CPU", "MEMORY", "DRIVERS"}
	if c.output == outputWide {
		head = append(head, "ADDRESS", "DATACENTER", "POOL", "OS", "FULL ID")
	}
	t := newTable(head...)
	for _, n := range nodes {
		row := []string{short(n.ID), n.Name, n.Status, yesNo(n.SchedulingEligibility == api.NodeEligible), "-", "-",
			orDash(strings.Join(healthyDrivers(n.Drivers), ","))}
		if r := n.NodeResources; r != nil {
			row[4] = fmt.Sprintf("%d MHz", r.Cpu.CpuShares)
			row[5] = mib(r.Memory.MemoryMB)
		}
		if c.output == outputWide {
			row = append(row, orDash(n.Address), n.Datacenter, n.NodePool,
				strings.TrimSpace(n.Attributes["os.name"]+" "+n.Attributes["os.version"]), n.ID)
		}
		t.add(row...)
	}
	c.printTable(t)
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func healthyDrivers(drivers map[string]*api.DriverStatus) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(drivers)) {
		if d := drivers[name]; d != nil && d.Detected && d.Healthy {
			names = append(names, name)
		}
	}
	return names
}

// nodeView is what `node status NODE` shows.
type nodeView struct {
	Node        *api.Node
	Allocations []*api.Allocation
}

func (c *cli) showNode(ctx context.Context, cl *client.Client, arg string) error {
	id, err := findNode(ctx, cl, arg)
	if err != nil {
		return err
	}
	var v nodeView
	if v.Node, _, err = cl.Node(ctx, id, client.Query{}); err != nil {
		return fmt.Errorf("node %s: %w", short(id), err)
	}
	if v.Allocations, _, err = cl.NodeAllocations(ctx, id, client.Query{}); err != nil {
		return fmt.Errorf("node %s: %w", short(id), err)
	}
	if c.output == outputJSON {
		return c.printJSON(v)
	}
	c.showMachine(v)
	c.showDrivers(v.Node)
	c.section("Allocations")
	if len(v.Allocations) == 0 {
		c.printf("None.\n")
		return nil
	}
	slices.SortFunc(v.Allocations, func(a, b *api.Allocation) int { return cmp.Compare(b.CreateIndex, a.CreateIndex) })
	t := newTable("ID", "NAME", "WANTED", "STATUS", "CPU", "MEMORY", "PORTS", "MODIFIED")
	for _, a := range v.Allocations {
		cpu, mem := held(a)
		t.add(short(a.ID), a.Name, a.DesiredStatus, a.ClientStatus, fmt.Sprintf("%d MHz", cpu), mib(mem),
			orDash(portsOf(a.AllocatedResources)), c.age(time.Unix(0, a.ModifyTime)))
	}
	c.printTable(t)
	return nil
}

func (c *cli) showMachine(v nodeView) {
	n, attr := v.Node, v.Node.Attributes
	var cpu, mem int64
	running := 0
	for _, a := range v.Allocations {
		if !a.ClientTerminal() {
			c, m := held(a)
			cpu, mem, running = cpu+c, mem+m, running+1
		}
	}
	r, kept := n.NodeResources, n.ReservedResources
	var f facts
	f.add("Node", n.Name)
	f.add("ID", n.ID)
	f.add("Status", fmt.Sprintf("%s, since %s", withReason(n.Status, n.StatusDescription), c.age(time.Unix(n.StatusUpdatedAt, 0))))
	f.add("Eligible", yesNo(n.SchedulingEligibility == api.NodeEligible))
	f.add("Datacenter", n.Datacenter)
	f.add("Pool", n.NodePool)
	f.add("Class", n.NodeClass)
	f.add("Address", attr["unique.network.ip-address"])
	f.add("System", joined(" ", attr["os.name"], attr["os.version"], attr["kernel.name"], attr["kernel.version"], attr["cpu.arch"]))
	f.add("CPU", joined(", ", attr["cpu.modelname"], plural(r.Cpu.TotalCpuCores, "core"),
		fmt.Sprintf("%d of %d MHz given out", cpu, r.Cpu.CpuShares-int64(kept.Cpu.CpuShares))))
	f.add("Memory", fmt.Sprintf("%s of %s given out", mib(mem), mib(r.Memory.MemoryMB-kept.Memory.MemoryMB)))
	f.add("Disk", mib(r.Disk.DiskMB-kept.Disk.DiskMB)+" free")
	f.add("Running", plural(running, "allocation"))
	f.add("Brume", n.Version)
	c.printFacts(f)
	if c.output != outputWide {
		return
	}
	c.section("Attributes")
	var all facts
	for _, k := range slices.Sorted(maps.Keys(attr)) {
		all.add(k, attr[k])
	}
	for _, k := range slices.Sorted(maps.Keys(n.Meta)) {
		all.add("meta."+k, n.Meta[k])
	}
	c.printFacts(all)
}

func (c *cli) showDrivers(n *api.Node) {
	c.section("Drivers")
	t := newTable("DRIVER", "DETECTED", "HEALTHY", "WHAT IT SAYS")
	for _, name := range slices.Sorted(maps.Keys(n.Drivers)) {
		if d := n.Drivers[name]; d != nil {
			t.add(name, yesNo(d.Detected), yesNo(d.Healthy), d.HealthDescription)
		}
	}
	c.printTable(t)
}

// held is the CPU in MHz and the memory in MiB that an allocation holds.
func held(a *api.Allocation) (cpu, mem int64) {
	if a.AllocatedResources == nil {
		return 0, 0
	}
	for _, t := range a.AllocatedResources.Tasks {
		cpu += t.Cpu.CpuShares
		mem += t.Memory.MemoryMB
	}
	return cpu, mem
}

func joined(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}

// findNode turns an id's beginning, or a name, into the id of one node.
func findNode(ctx context.Context, cl *client.Client, arg string) (string, error) {
	nodes, _, err := cl.Nodes(ctx, client.Query{})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, n := range nodes {
		if n.Name == arg || strings.HasPrefix(n.ID, arg) {
			ids = append(ids, n.ID)
		}
	}
	return oneOf("node", arg, ids)
}
