package link

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// benchmarkRequests makes b.N requests over loopback, 64 at once.
func benchmarkRequests(b *testing.B, fromHub bool, method, body string) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"Index":1}`)
	})
	w := newWorld(b, worldOptions{tcp: true, hub: answer})
	defer w.close()
	agent, hub := w.connect("n1", answer)
	defer agent.Close()
	from := agent
	if fromHub {
		from = hub
	}
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, _ := http.NewRequest(method, "http://link/statuses", strings.NewReader(body))
			resp, err := from.RoundTripper().RoundTrip(req)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

func BenchmarkReportToHub(b *testing.B) {
	benchmarkRequests(b, false, "PUT", strings.Repeat("s", 300))
}

func BenchmarkGetFromAgent(b *testing.B) { benchmarkRequests(b, true, "GET", "") }

func BenchmarkHandshake(b *testing.B) {
	w := newWorld(b, worldOptions{tcp: true})
	defer w.close()
	for b.Loop() {
		agent, _ := w.connect("n1", nil)
		agent.Close()
	}
}
