package api

import (
	"regexp"
	"strconv"
	"time"
)

var (
	portLabel   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	serviceName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
)

// networks checks a group's networks and returns the labels of its ports.
func (p *problems) networks(where string, networks []*Network) map[string]bool {
	labels := make(map[string]bool)
	static := make(map[int]string)
	if len(networks) > 1 {
		p.add(where, "network", "a group has at most one")
	}
	for i, n := range networks {
		at := where + " " + Nth("network", i, len(networks))
		if n == nil {
			p.add(at, "", "missing")
			continue
		}
		if n.Mode != "" && n.Mode != "host" {
			p.add(at, "mode", "%q: not supported yet, only \"host\"", n.Mode)
		}
		p.unbuilt(at, n)
		for _, port := range n.ReservedPorts {
			here := p.port(at, port, labels)
			switch other, taken := static[port.Value]; {
			case port.Value < 1 || port.Value > 65535:
				p.add(here, "static", "must be 1 to 65535, is %d", port.Value)
			case taken:
				p.add(here, "static", "%d is port %q already", port.Value, other)
			default:
				static[port.Value] = port.Label
			}
		}
		for _, port := range n.DynamicPorts {
			here := p.port(at, port, labels)
			if port.Value != 0 {
				p.add(here, "static", "a dynamic port has no value of its own, not %d", port.Value)
			}
		}
	}
	return labels
}

func (p *problems) port(where string, port Port, labels map[string]bool) string {
	where += " port " + strconv.Quote(port.Label)
	switch {
	case !portLabel.MatchString(port.Label):
		p.add(where, "", "a label is 1 to 64 letters, digits, dashes and underscores")
	case labels[port.Label]:
		p.add(where, "", "there is another port of that label")
	}
	labels[port.Label] = true
	if port.To < 0 || port.To > 65535 {
		p.add(where, "to", "must be 1 to 65535, is %d", port.To)
	}
	p.unbuilt(where, &port)
	return where
}

func (p *problems) services(where string, g *Group, ports map[string]bool, services []*Service) {
	for i, s := range services {
		at := where + " " + Nth("service", i, len(services))
		if s == nil {
			p.add(at, "", "missing")
			continue
		}
		if !serviceName.MatchString(s.Name) && !interpolated(s.Name) {
			p.add(at, "name", "%q must be 1 to 63 letters, digits, dashes, dots and underscores", s.Name)
		}
		switch s.Provider {
		case "", ProviderConsul, ProviderNative:
		default:
			p.add(at, "provider", "%q is neither %q nor %q", s.Provider, ProviderNative, ProviderConsul)
		}
		switch s.AddressMode {
		case "", "auto", "host", "driver", "alloc", "alloc_ipv6":
		default:
			p.add(at, "address_mode", "%q is none of auto, host, driver, alloc and alloc_ipv6", s.AddressMode)
		}
		p.servicePort(at, s.PortLabel, ports)
		if s.TaskName != "" && g.Task(s.TaskName) == nil {
			p.add(at, "task", "there is no task %q in the group", s.TaskName)
		}
		p.unbuilt(at, s)
		for k, c := range s.Checks {
			p.check(at+" "+Nth("check", k, len(s.Checks)), g, ports, c)
		}
	}
}

// servicePort checks a reference to a port: a label of the group's network, or a number.
func (p *problems) servicePort(where, port string, ports map[string]bool) {
	if port == "" || ports[port] || interpolated(port) {
		return
	}
	if n, err := strconv.Atoi(port); err == nil && n > 0 && n <= 65535 {
		return
	}
	p.add(where, "port", "the group's network has no port %q", port)
}

func (p *problems) check(where string, g *Group, ports map[string]bool, c ServiceCheck) {
	switch c.Type {
	case "tcp", "grpc":
	case "http":
		if c.Path == "" {
			p.add(where, "path", "missing")
		}
	case "script":
		if c.Command == "" {
			p.add(where, "command", "missing")
		}
	default:
		p.add(where, "type", "%q is none of http, tcp, grpc and script", c.Type)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"interval", c.Interval}, {"timeout", c.Timeout}} {
		if d.value < minCheckTime {
			p.add(where, d.field, "must be at least %v, is %v", minCheckTime, d.value)
		}
	}
	p.servicePort(where, c.PortLabel, ports)
	if c.TaskName != "" && g.Task(c.TaskName) == nil {
		p.add(where, "task", "there is no task %q in the group", c.TaskName)
	}
}
