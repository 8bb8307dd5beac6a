package plugins

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/brumehq/brume/plugins/wire"
)

// TestMain turns this program into a plugin, of which some are hostile, or into a host that is going to be killed.
func TestMain(m *testing.M) {
	mode := os.Getenv("TEST_PLUGIN")
	if mode == "" {
		os.Exit(m.Run())
	}
	if path := os.Getenv("TEST_PID"); path != "" {
		if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			panic(err)
		}
	}
	switch mode {
	case "good":
		serve(&recorder{})
	case "flood":
		go func() {
			for i := 0; ; i++ {
				fmt.Fprintln(os.Stderr, strings.Repeat("flood ", 10_000), i)
			}
		}()
		serve(&recorder{})
	case "huge":
		serve(&recorder{attribute: strings.Repeat("x", 2*maxMessage)})
	case "child":
		child := exec.Command("/bin/sleep", "1000")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			panic(err)
		}
		if err := os.WriteFile(os.Getenv("TEST_CHILD"), []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
			panic(err)
		}
		serve(&recorder{})
	case "garbage":
		fmt.Print(strings.Repeat("garbage|", 1<<20))
		time.Sleep(time.Hour)
	case "silent":
		time.Sleep(time.Hour)
	case "liar":
		fmt.Println("1|2|unix|/does/not/exist|grpc|")
		time.Sleep(time.Hour)
	case "stranger":
		fmt.Println("1|99|unix|/does/not/exist|grpc|")
		time.Sleep(time.Hour)
	case "fails":
		fmt.Fprintln(os.Stderr, "the moon is in the wrong phase")
		os.Exit(3)
	case "host":
		hostToBeKilled()
	}
}

func serve(d Driver) {
	if err := Serve(d); err != nil {
		panic(err)
	}
}

// recorder is a driver that does nothing, and says what it was told.
type recorder struct {
	attribute string

	mu      sync.Mutex
	color   string
	host    HostConfig
	started map[string]chan struct{}
}

func (d *recorder) Describe() Description {
	return Description{
		Name: "recorder", Version: "1.2.3",
		Config:     Fields(map[string]Schema{"color": Default(Attr("color", "string"), `"red"`)}),
		TaskConfig: Fields(map[string]Schema{"log": Default(Attr("log", "number"), "0")}),
	}
}

func (d *recorder) Configure(_ context.Context, c Config, host HostConfig) error {
	var v struct {
		Color string `codec:"color"`
	}
	if err := c.Decode(&v); err != nil {
		return err
	}
	if v.Color == "none" {
		return errors.New("that is no color")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.color, d.host = v.Color, host
	return nil
}

func (d *recorder) Fingerprint(ctx context.Context) (<-chan Fingerprint, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(chan Fingerprint, 1)
	out <- Fingerprint{Health: Healthy, Attributes: map[string]string{
		"color": d.color, "cores": strconv.Itoa(len(d.host.Topology.Cores)), "big": d.attribute,
		"env": strings.Join(os.Environ(), "\n"),
	}}
	context.AfterFunc(ctx, func() { close(out) })
	return out, nil
}

// Start logs as many lines as it is told to.
func (d *recorder) Start(_ context.Context, task *TaskConfig) (*TaskHandle, *NetworkOverride, error) {
	var c struct {
		Log int `codec:"log"`
	}
	if err := task.Decode(&c); err != nil {
		return nil, nil, err
	}
	for i := range c.Log {
		fmt.Fprintf(logTo, `{"@level":"warn","@message":"logged","line":%d}`+"\n", i)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started == nil {
		d.started = make(map[string]chan struct{})
	}
	d.started[task.ID] = make(chan struct{})
	return &TaskHandle{Version: 1, Config: task, State: TaskStateRunning}, nil, nil
}

// logTo is the stderr of the process; go-plugin puts another file in the place of os.Stderr.
var logTo = os.Stderr

func (d *recorder) Recover(context.Context, *TaskHandle) error { return nil }

func (d *recorder) Wait(ctx context.Context, id string) (ExitResult, error) {
	<-ctx.Done()
	return ExitResult{}, ctx.Err()
}

func (d *recorder) Stop(ctx context.Context, _ string, _ time.Duration, _ string) error {
	return NewRecoverable(fmt.Errorf("%w, sorry", ErrTaskNotFound))
}

func (d *recorder) Destroy(context.Context, string, bool) error { return nil }

// sockets is a short directory for sockets, which must be empty in the end.
func sockets(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error("left by the plugin: ", err)
		}
	})
	return dir
}

func configOf(t *testing.T, mode string) LaunchConfig {
	return LaunchConfig{
		Name: mode, Path: os.Args[0], Env: []string{"TEST_PLUGIN=" + mode}, SocketDir: sockets(t),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

func launch(t *testing.T, mode string) *Instance {
	t.Helper()
	return launchConfig(t, configOf(t, mode))
}

func launchConfig(t *testing.T, c LaunchConfig) *Instance {
	t.Helper()
	i, err := Launch(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Kill(context.Background()) })
	return i
}

// fingerprint is the first that the driver sends.
func fingerprint(t *testing.T, c Client) Fingerprint {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	prints, err := c.Fingerprint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f, ok := <-prints
	if !ok {
		t.Fatal("no fingerprint")
	}
	return f
}

func TestLaunch(t *testing.T) {
	i := launch(t, "good")
	if want := (Info{Name: "recorder", Version: "1.2.3"}); i.Info() != want {
		t.Errorf("info %+v, want %+v", i.Info(), want)
	}
	host := HostConfig{MinPort: 1, MaxPort: 2, Topology: Topology{Cores: []Core{{ID: 0}, {ID: 1}}}}
	for config, want := range map[string]string{"": "red", "blue": "blue"} {
		given := map[string]any{}
		if config != "" {
			given["color"] = config
		}
		if err := i.Configure(t.Context(), given, host); err != nil {
			t.Fatal(err)
		}
		if f := fingerprint(t, i.Driver()); f.Attributes["color"] != want || f.Attributes["cores"] != "2" {
			t.Errorf("configured with %v it is %v, want %s and 2 cores", given, f.Attributes, want)
		}
	}
	for config, want := range map[string]string{"none": "that is no color"} {
		if err := i.Configure(t.Context(), map[string]any{"color": config}, host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("configured with %s: %v, want %q", config, err, want)
		}
	}
	err := i.Driver().Stop(t.Context(), "x", time.Second, "")
	if !errors.Is(err, ErrTaskNotFound) || !Recoverable(err) || !strings.Contains(err.Error(), "sorry") {
		t.Errorf("an error came as %v, recoverable %v", err, Recoverable(err))
	}
	if _, err := i.Driver().Inspect(t.Context(), "x"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("inspect: %v, want %v", err, ErrUnsupported)
	}
	for range must(i.Driver().Events(t.Context()))(t) {
		t.Error("an event of a driver without events")
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestEnvironmentIsTheGiven(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	c := configOf(t, "good")
	c.Env = append(c.Env, "COLOR=red")
	f := fingerprint(t, launchConfig(t, c).Driver())
	var names []string
	for entry := range strings.SplitSeq(f.Attributes["env"], "\n") {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{
		"COLOR", wire.CookieKey, "PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR", "TEST_PLUGIN",
	}
	if !slices.Equal(names, want) {
		t.Errorf("environment has %v, want %v", names, want)
	}
}

func TestPluginDies(t *testing.T) {
	i := launch(t, "good")
	waited := make(chan error)
	go func() {
		_, err := i.Driver().Wait(t.Context(), "x")
		waited <- err
	}()
	if err := syscall.Kill(i.Reattach().Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, i.Done())
	if err := <-waited; !errors.Is(err, ErrPluginGone) {
		t.Errorf("a pending wait: %v, want %v", err, ErrPluginGone)
	}
	if err := i.Driver().Recover(t.Context(), &TaskHandle{}); !errors.Is(err, ErrPluginGone) {
		t.Errorf("a later call: %v, want %v", err, ErrPluginGone)
	}
}

// within waits for something that must come soon.
func within(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not come")
	}
}

func TestDetachAndReattach(t *testing.T) {
	c := configOf(t, "good")
	first, err := Launch(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() {
		_, err := first.Driver().Wait(t.Context(), "x")
		waited <- err
	}()
	at := first.Reattach()
	first.Detach()
	if err := <-waited; !errors.Is(err, ErrPluginGone) {
		t.Errorf("a pending wait: %v, want %v", err, ErrPluginGone)
	}
	stored, err := json.Marshal(at)
	if err != nil {
		t.Fatal(err)
	}
	c.Reattach = new(Reattach)
	if err := json.Unmarshal(stored, c.Reattach); err != nil {
		t.Fatal(err)
	}
	wrong := c
	stale := t.TempDir()
	wrong.Reattach = &Reattach{Pid: at.Pid, Started: at.Started + 1, Addr: at.Addr, Dir: stale}
	if _, err := Launch(t.Context(), wrong); err == nil {
		t.Error("another process with the same number was taken over")
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("what the dead plugin left is still there")
	}
	second := launchConfig(t, c)
	if second.Info() != first.Info() || second.Reattach() != at {
		t.Errorf("taken over: %+v, %+v, want %+v, %+v", second.Info(), second.Reattach(), first.Info(), at)
	}
	if f := fingerprint(t, second.Driver()); f.Health != Healthy {
		t.Errorf("taken over, it is %v", f.Health)
	}
	second.Kill(t.Context())
	gone(t, at.Pid)
	if _, err := Launch(t.Context(), c); err == nil {
		t.Error("a dead plugin was taken over")
	}
}

// gone checks that a process is no more. One that we have not waited for yet counts as gone.
func gone(t *testing.T, pid int) {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err == nil && !bytes.Contains(data, []byte(") Z ")) {
		t.Errorf("process %d is still there: %s", pid, data)
	}
}

// hostToBeKilled launches a plugin and says how to take it over.
func hostToBeKilled() {
	i, err := Launch(context.Background(), LaunchConfig{
		Name: "x", Path: os.Args[0], Env: []string{"TEST_PLUGIN=good"}, SocketDir: os.Getenv("TEST_SOCKETS"),
	})
	if err != nil {
		panic(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(i.Reattach()); err != nil {
		panic(err)
	}
	time.Sleep(time.Hour)
}

func TestPluginOutlivesItsHost(t *testing.T) {
	dir := sockets(t)
	host := exec.Command(os.Args[0])
	host.Env = []string{"TEST_PLUGIN=host", "TEST_SOCKETS=" + dir}
	out := must(host.StdoutPipe())(t)
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	at := new(Reattach)
	decodeErr := json.NewDecoder(out).Decode(at)
	host.Process.Kill()
	host.Wait()
	if decodeErr != nil {
		t.Fatal(decodeErr)
	}
	// The next host reads no log yet when the plugin writes: first to nobody, more than a pipe holds.
	fifo := filepath.Join(at.Dir, logPipe)
	if err := os.Rename(fifo, fifo+".away"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	deaf := launchConfig(t, LaunchConfig{Name: "deaf", Reattach: at})
	talk(t, deaf.Driver(), 10_000)
	if f := fingerprint(t, deaf.Driver()); f.Health != Healthy {
		t.Fatalf("after writing to nobody it is %v", f.Health)
	}
	deaf.Detach()
	if err := os.Rename(fifo+".away", fifo); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	hears := launchConfig(t, LaunchConfig{Name: "hears", Reattach: at, Log: slog.New(slog.NewTextHandler(&log, nil))})
	talk(t, hears.Driver(), 3)
	hears.Kill(t.Context())
	gone(t, at.Pid)
	if got := strings.Count(log.String(), "text=logged"); got != 3 {
		t.Errorf("the next host got %d lines of the log, want 3:\n%s", got, log.String())
	}
}

func talk(t *testing.T, c Client, lines int) {
	t.Helper()
	data, err := c.EncodeTaskConfig(t.Context(), map[string]any{"log": lines}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Start(t.Context(), &TaskConfig{ID: "x", DriverConfig: data}); err != nil {
		t.Fatal(err)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestLaunchFails(t *testing.T) {
	for mode, want := range map[string]string{
		"garbage":  "", // what it says is as long as it likes
		"silent":   "context deadline exceeded",
		"liar":     "/does/not/exist",
		"stranger": "99",
		"fails":    "the moon is in the wrong phase",
	} {
		t.Run(mode, func(t *testing.T) {
			limit := 15 * time.Second
			if mode == "silent" {
				limit = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			c := configOf(t, mode)
			pid := filepath.Join(t.TempDir(), "pid")
			c.Env = append(c.Env, "TEST_PID="+pid)
			i, err := Launch(ctx, c)
			if err == nil {
				i.Kill(ctx)
				t.Fatal("it is launched")
			}
			if !strings.Contains(err.Error(), want) || len(err.Error()) > 2*maxErrorText {
				t.Errorf("error of %d bytes %.200q, want %q", len(err.Error()), err, want)
			}
			text, err := os.ReadFile(pid)
			if err != nil {
				t.Fatal(err)
			}
			gone(t, must(strconv.Atoi(string(text)))(t))
		})
	}
	t.Run("no such file", func(t *testing.T) {
		c := configOf(t, "good")
		c.Path = "/does/not/exist"
		if _, err := Launch(t.Context(), c); err == nil || !strings.Contains(err.Error(), c.Path) {
			t.Errorf("launch: %v, want it to name %s", err, c.Path)
		}
	})
	t.Run("too long a directory", func(t *testing.T) {
		c := LaunchConfig{Path: os.Args[0], SocketDir: "/tmp/" + strings.Repeat("x", 100)}
		if _, err := Launch(t.Context(), c); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("launch: %v, want too long", err)
		}
	})
}

func TestPluginFloodsItsLog(t *testing.T) {
	var log lockedBuffer
	c := configOf(t, "flood")
	c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	i := launchConfig(t, c)
	for range 20 {
		if f := fingerprint(t, i.Driver()); f.Health != Healthy {
			t.Errorf("it is %v", f.Health)
		}
	}
	i.Kill(t.Context())
	for line := range strings.Lines(log.String()) {
		if len(line) > 2*maxLogLine {
			t.Fatalf("a line of %d bytes is in the log", len(line))
		}
	}
	if n := strings.Count(log.String(), "\n"); n > logBurst+20*logsPerSec {
		t.Errorf("%d lines are in the log", n)
	}
}

func TestPluginAnswersTooMuch(t *testing.T) {
	i := launch(t, "huge")
	f := fingerprint(t, i.Driver())
	if f.Health != Unhealthy || f.Err == nil {
		t.Errorf("a fingerprint of %d bytes came as %v, %v", 2*maxMessage, f.Health, f.Err)
	}
	if _, err := i.Driver().Capabilities(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestPluginStopsAnswering(t *testing.T) {
	i := launch(t, "good")
	pid := i.Reattach().Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	i.Kill(ctx)
	gone(t, pid)
}

func TestPluginThatCannotBeTakenOverIsEnded(t *testing.T) {
	i, err := Launch(t.Context(), configOf(t, "good"))
	if err != nil {
		t.Fatal(err)
	}
	at := i.Reattach()
	i.Detach()
	if err := syscall.Kill(at.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	at.Addr = "/does/not/exist"
	if _, err := Launch(t.Context(), LaunchConfig{Name: "x", Reattach: &at}); err == nil {
		t.Fatal("it was taken over")
	}
	gone(t, at.Pid)
}

func TestPluginLeavesChildren(t *testing.T) {
	c := configOf(t, "child")
	path := filepath.Join(t.TempDir(), "child")
	c.Env = append(c.Env, "TEST_CHILD="+path)
	i := launchConfig(t, c)
	pid := i.Reattach().Pid
	child := must(strconv.Atoi(string(must(os.ReadFile(path))(t))))(t)
	defer syscall.Kill(child, syscall.SIGKILL)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, i.Done())
	i.Kill(t.Context()) // it returns though the children hold the log open
}

func TestOldPluginKnowsNeitherInitNorShutdown(t *testing.T) {
	old := goplugin.PluginSet{wire.DriverSet: &grpcPlugin{serve: func(s *grpc.Server) {
		wire.RegisterDriverServer(s, wire.UnimplementedDriverServer{})
	}}}
	client, server := goplugin.TestPluginGRPCConn(t, false, old)
	defer func() {
		client.Close() // stops the server too
		<-server.DoneCh
	}()
	r := newRemote(client.Conn, nil).Tasks.(*remote)
	if err := errors.Join(r.open(t.Context()), r.shut(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestServeByHand(t *testing.T) {
	if err := Serve(&recorder{}); !errors.Is(err, ErrNotStartedByHost) {
		t.Errorf("Serve: %v, want %v", err, ErrNotStartedByHost)
	}
}

func TestRelay(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"hclog":         {`{"@level":"error","@message":"hello","@module":"m","@timestamp":"t","b":1,"a":"x"}`, `level=ERROR msg="plugin log" text=hello module=m a=x b=1`},
		"info is debug": {`{"@level":"info","@message":"hello"}`, `level=DEBUG msg="plugin log" text=hello`},
		"plain text":    {"panic: oh", `level=DEBUG msg="plugin log" line="panic: oh"`},
		"other JSON":    {`{"a":1}`, `level=DEBUG msg="plugin log" line="{\"a\":1}"`},
		"no UTF-8":      {"\xff\xfe", `level=DEBUG msg="plugin log" line="�"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			drop := func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}
			log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: drop}))
			(&relay{log: log}).run(bufio.NewReader(strings.NewReader(test.in + "\n")))
			if got := strings.TrimSpace(out.String()); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
