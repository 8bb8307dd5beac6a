package api

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/go-version"
)

func (p *problems) restart(where string, r Restart) {
	where = strings.TrimSpace(where + " restart")
	switch r.Mode {
	case RestartModeFail:
	case RestartModeDelay:
		if r.Attempts == 0 {
			p.add(where, "attempts", "0 with mode %q says nothing: use mode %q", RestartModeDelay, RestartModeFail)
		}
	default:
		p.add(where, "mode", "%q is neither %q nor %q", r.Mode, RestartModeFail, RestartModeDelay)
	}
	p.notNegative(where, "delay", r.Delay)
	switch {
	case r.Attempts < 0:
		p.add(where, "attempts", "must not be negative, is %d", r.Attempts)
	case r.Attempts == 0:
	case r.Interval < minRestartInterval:
		p.add(where, "interval", "must be at least %v, is %v", minRestartInterval, r.Interval)
	case float64(r.Attempts)*float64(r.Delay) > float64(r.Interval):
		p.add(where, "interval", "%v is too short for %d attempts %v apart", r.Interval, r.Attempts, r.Delay)
	}
}

func (p *problems) reschedule(where string, r *Reschedule) {
	if r == nil || r.Attempts == 0 && !r.Unlimited {
		return // never rescheduled
	}
	where = strings.TrimSpace(where + " reschedule")
	switch {
	case r.Attempts < 0:
		p.add(where, "attempts", "must not be negative, is %d", r.Attempts)
	case r.Attempts > 0 && r.Unlimited:
		p.add(where, "attempts", "%d has no meaning with unlimited = true: set unlimited = false", r.Attempts)
	case r.Attempts > 0 && r.Interval < minRescheduleInterval:
		p.add(where, "interval", "must be at least %v, is %v", minRescheduleInterval, r.Interval)
	}
	if r.Delay < minRescheduleDelay {
		p.add(where, "delay", "must be at least %v, is %v", minRescheduleDelay, r.Delay)
	}
	switch r.DelayFunction {
	case DelayConstant:
	case DelayExponential, DelayFibonacci:
		if r.MaxDelay < r.Delay {
			p.add(where, "max_delay", "%v is less than delay %v", r.MaxDelay, r.Delay)
		}
	default:
		p.add(where, "delay_function", "%q is none of %q, %q and %q",
			r.DelayFunction, DelayConstant, DelayExponential, DelayFibonacci)
	}
}

func (p *problems) update(where string, j *Job, u *Update) {
	if u == nil {
		return
	}
	if j.Type == JobTypeBatch {
		if where == "" || j.Update == nil { // else it is the job's, reported there
			p.add(where, "update", "batch jobs have none")
		}
		return
	}
	where = strings.TrimSpace(where + " update")
	if u.MaxParallel < 0 {
		p.add(where, "max_parallel", "must not be negative, is %d", u.MaxParallel)
	}
	p.notNegative(where, "min_healthy_time", u.MinHealthyTime)
	p.unbuilt(where, u)
}

func (p *problems) constraints(where string, cs []Constraint) {
	for i, c := range cs {
		p.constraint(strings.TrimSpace(where+" "+Nth("constraint", i, len(cs))), c)
	}
}

func (p *problems) constraint(where string, c Constraint) {
	needsAttribute, needsValue := true, true
	switch c.Operand {
	case OperandEqual, OperandNotEqual:
		needsValue = false // may be compared with nothing
	case OperandLess, OperandLessEqual, OperandGreater, OperandGreaterEqual:
	case OperandSetContains, OperandSetContainsAll, OperandSetContainsAny:
	case OperandRegexp:
		if len(c.RTarget) > MaxPattern {
			p.add(where, "value", "longer than %d bytes", MaxPattern)
		} else if _, err := regexp.Compile(c.RTarget); err != nil && !interpolated(c.RTarget) {
			p.add(where, "value", "%v", err)
		}
	case OperandVersion, OperandSemver:
		if len(c.RTarget) > MaxVersions {
			p.add(where, "value", "longer than %d bytes", MaxVersions)
		} else if _, err := version.NewConstraint(c.RTarget); c.RTarget != "" && err != nil && !interpolated(c.RTarget) {
			p.add(where, "value", "%q is no version constraint (\">= 1.2, < 2.0\")", c.RTarget)
		}
	case OperandIsSet, OperandIsNotSet:
		needsValue = false
		if c.RTarget != "" {
			p.add(where, "value", "%s takes none", c.Operand)
		}
	case OperandDistinctHosts:
		needsAttribute, needsValue = false, false
		if _, err := strconv.ParseBool(c.RTarget); c.RTarget != "" && err != nil {
			p.add(where, "value", "%q is neither true nor false", c.RTarget)
		}
	case OperandDistinctProperty:
		needsValue = false
		if n, err := strconv.ParseUint(c.RTarget, 10, 31); c.RTarget != "" && (err != nil || n < 1) {
			p.add(where, "value", "%q is no number of instances, 1 to %d", c.RTarget, math.MaxInt32)
		}
	default:
		p.add(where, "operator", "%q is unknown", c.Operand)
		return
	}
	if needsAttribute && c.LTarget == "" {
		p.add(where, "attribute", "missing")
	}
	if needsValue && c.RTarget == "" {
		p.add(where, "value", "missing")
	}
}

// interpolated reports whether a text has parts that are known only on a node.
func interpolated(s string) bool { return strings.Contains(s, "${") }
