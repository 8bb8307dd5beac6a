package fake

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/brumehq/brume/plugins"
	"github.com/brumehq/brume/plugins/drivertest"
)

// TestMain turns this program into the plugin.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		if Main() != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func suite(c plugins.Client) drivertest.Suite {
	return drivertest.Suite{
		Client: c,
		Exits:  func(code int) map[string]any { return map[string]any{"run_for": "0s", "exit_code": code} },
		Lives:  map[string]any{},
		Stays:  map[string]any{"kill_after": "1h", "stdout_string": "ready\n"},
		Prints: func(text string) map[string]any { return map[string]any{"stdout_string": text} },
		Wrong:  []map[string]any{{"exit_code": "seven"}, {"run_for": []string{"1s"}}},
	}
}

func TestConformance(t *testing.T) {
	t.Run("in process", func(t *testing.T) { drivertest.Run(t, suite(plugins.InProcess(New()))) })
	t.Run("over gRPC", func(t *testing.T) { drivertest.Run(t, suite(drivertest.OverGRPC(t, New()))) })
	t.Run("as a plugin", func(t *testing.T) {
		program := &drivertest.Program{Path: os.Args[0], Args: []string{"plugin"}}
		s := suite(program.Start(t))
		s.Restart = program.Restart
		drivertest.Run(t, s)
	})
}

// start starts a task of the block in a driver.
func start(t *testing.T, c plugins.Client, id string, config map[string]any) (*plugins.TaskHandle, error) {
	t.Helper()
	data, err := c.EncodeTaskConfig(t.Context(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := c.Start(t.Context(), &plugins.TaskConfig{ID: id, Name: "task", AllocID: "alloc", DriverConfig: data})
	return h, err
}

func TestTimeIsVirtual(t *testing.T) {
	for name, test := range map[string]struct {
		config map[string]any
		after  time.Duration
		want   plugins.ExitResult
	}{
		"run_for and exit_code":   {map[string]any{"run_for": "24h", "exit_code": 3}, 24 * time.Hour, plugins.ExitResult{ExitCode: 3}},
		"exit_signal":             {map[string]any{"run_for": "1s", "exit_signal": 11}, time.Second, plugins.ExitResult{Signal: 11}},
		"oom_killed":              {map[string]any{"run_for": "1s", "oom_killed": true}, time.Second, plugins.ExitResult{OOMKilled: true}},
		"fail_times without code": {map[string]any{"run_for": "1s", "fail_times": 1}, time.Second, plugins.ExitResult{ExitCode: 1}},
		"start_block_for":         {map[string]any{"run_for": "1s", "start_block_for": "1m"}, 61 * time.Second, plugins.ExitResult{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := plugins.InProcess(New())
				began := time.Now()
				if _, err := start(t, c, "id", test.config); err != nil {
					t.Fatal(err)
				}
				got, err := c.Wait(t.Context(), "id")
				if err != nil || got != test.want || time.Since(began) != test.after {
					t.Errorf("%v: %+v, %v after %v, want %+v after %v", test.config, got, err, time.Since(began), test.want, test.after)
				}
			})
		})
	}
}

func TestFailTimesCountsRunsOfAnAllocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := plugins.InProcess(New())
		var codes []int
		for _, id := range []string{"a", "b", "c", "d"} {
			if _, err := start(t, c, id, map[string]any{"run_for": "1s", "fail_times": 2, "exit_code": 5}); err != nil {
				t.Fatal(err)
			}
			result, err := c.Wait(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, result.ExitCode)
		}
		if want := [4]int{5, 5, 0, 0}; [4]int(codes) != want {
			t.Errorf("codes %v, want %v", codes, want)
		}
	})
}

func TestStartError(t *testing.T) {
	for _, recoverable := range []bool{false, true} {
		c := drivertest.OverGRPC(t, New())
		_, err := start(t, c, "id", map[string]any{"start_error": "no luck", "start_error_recoverable": recoverable})
		if err == nil || err.Error() != "no luck" || plugins.Recoverable(err) != recoverable {
			t.Errorf("start: %v, recoverable %v, want no luck, %v", err, plugins.Recoverable(err), recoverable)
		}
		if _, err := c.Wait(t.Context(), "id"); !errors.Is(err, plugins.ErrTaskNotFound) {
			t.Errorf("wait after a failed start: %v, want %v", err, plugins.ErrTaskNotFound)
		}
	}
}

func TestRecoverCountsFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		handle, err := start(t, plugins.InProcess(New()), "id", map[string]any{"run_for": "10m", "exit_code": 2})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		later := plugins.InProcess(New())
		if err := later.Recover(t.Context(), handle); err != nil {
			t.Fatal(err)
		}
		got, err := later.Wait(t.Context(), "id")
		if err != nil || got.ExitCode != 2 || time.Since(began) != 10*time.Minute {
			t.Errorf("%+v, %v after %v, want code 2 after 10m", got, err, time.Since(began))
		}
	})
}

func TestStop(t *testing.T) {
	for name, test := range map[string]struct {
		killAfter string
		timeout   time.Duration
		after     time.Duration
		signal    syscall.Signal
	}{
		"at once":             {"", time.Minute, 0, syscall.SIGTERM},
		"after kill_after":    {"5s", time.Minute, 5 * time.Second, syscall.SIGTERM},
		"by force at timeout": {"1h", time.Minute, time.Minute, syscall.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := plugins.InProcess(New())
				if _, err := start(t, c, "id", map[string]any{"kill_after": test.killAfter}); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if err := c.Stop(t.Context(), "id", test.timeout, "SIGTERM"); err != nil {
					t.Fatal(err)
				}
				got, err := c.Wait(t.Context(), "id")
				if err != nil || got.Signal != int(test.signal) || time.Since(began) != test.after {
					t.Errorf("%+v, %v after %v, want %v after %v", got, err, time.Since(began), test.signal, test.after)
				}
			})
		})
	}
}

func TestHealthChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New()
		prints, err := d.Fingerprint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if f := <-prints; f.Health != plugins.Healthy {
			t.Errorf("at first %v", f.Health)
		}
		d.SetHealth(plugins.Unhealthy, "because")
		if f := <-prints; f.Health != plugins.Unhealthy || f.Description != "because" {
			t.Errorf("then %+v", f)
		}
	})
}
