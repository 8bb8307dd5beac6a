package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/brumehq/brume/api"
)

// maxErrorBody bounds how much of an error answer is read, in bytes.
const maxErrorBody = 64 << 10

// Config says which hub to ask and as whom.
type Config struct {
	Address   string       // http(s)://host:port; "" is http://127.0.0.1:4646
	Token     string       // sent as X-Nomad-Token; never logged
	Namespace string       // default of every query; "" is "default"
	CACert    []byte       // PEM of the authority that the hub's certificate must chain to; nil: the system's
	HTTP      *http.Client // nil: one made from CACert
}

// Client asks one hub.
type Client struct {
	base      *url.URL
	token     string
	namespace string
	http      *http.Client
}

// New checks cfg and makes a Client. It does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.Address == "" {
		cfg.Address = "http://127.0.0.1:4646"
	}
	base, err := url.Parse(cfg.Address)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, fmt.Errorf("address %q: want http://HOST:PORT or https://HOST:PORT: %w", cfg.Address, api.ErrInvalid)
	}
	hc := cfg.HTTP
	if hc == nil {
		if hc, err = httpClient(cfg.CACert); err != nil {
			return nil, err
		}
	}
	return &Client{base: base, token: cfg.Token, namespace: cfg.Namespace, http: hc}, nil
}

func httpClient(ca []byte) (*http.Client, error) {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
	}
	if ca != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("CA certificate: no PEM certificate in it: %w", api.ErrInvalid)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	// No answer of a hub leads elsewhere: a redirect followed would carry the token to whom the caller did not name.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: t, CheckRedirect: stay}, nil
}

// Address returns the hub's URL.
func (c *Client) Address() string { return c.base.String() }

// CloseIdle closes connections that no request uses.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// request is one call: the body is marshalled unless nil.
type request struct {
	method, path string
	query        url.Values
	body         any
}

// send makes the call and returns an answer whose status is 200, body unread.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		raw, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
		body = bytes.NewReader(raw)
	}
	u := *c.base
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+unescaped(r.path), strings.TrimSuffix(u.Path, "/")+r.path
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set(api.HeaderToken, c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("hub %s: %w", c.base.Host, cause(err))
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, answerError(resp)
	}
	return resp, nil
}

// call sends r and decodes the answer into out, unless out is nil.
func (c *Client) call(ctx context.Context, r request, out any) (*http.Response, error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: answer: %w", r.method, r.path, err)
	}
	return resp, nil
}

// get reads path with q into out.
func (c *Client) get(ctx context.Context, path string, q Query, out any) (Meta, error) {
	resp, err := c.call(ctx, request{method: http.MethodGet, path: path, query: c.values(q)}, out)
	if err != nil {
		return Meta{}, err
	}
	return metaOf(resp.Header), nil
}

// put writes body to path; q adds query parameters.
func (c *Client) put(ctx context.Context, path string, q Query, body, out any) error {
	_, err := c.call(ctx, request{method: http.MethodPut, path: path, query: c.values(q), body: body}, out)
	return err
}

// answerError turns a refused request into an error of the kind that the hub named.
func answerError(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	text := strings.TrimSpace(string(raw))
	if text == "" {
		text = resp.Status
	}
	kind := api.KindOfName(resp.Header.Get(api.HeaderError))
	if kind == nil {
		return &StatusError{Status: resp.StatusCode, Text: text}
	}
	return api.E(kind, text)
}

// StatusError is an answer whose kind the hub did not name.
type StatusError struct {
	Status int
	Text   string
}

// Error returns the hub's text and the status.
func (e *StatusError) Error() string { return fmt.Sprintf("%s (status %d)", e.Text, e.Status) }

// cause drops the URL that net/http puts before every transport error: callers know whom they asked.
func cause(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

func unescaped(path string) string {
	if p, err := url.PathUnescape(path); err == nil {
		return p
	}
	return path
}
