package plugins

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/brumehq/brume/plugins/wire"
)

// FuzzEncode gives a schema of a hostile plugin a configuration of a hostile user: it is taken or refused.
func FuzzEncode(f *testing.F) {
	add := func(s Schema, config string) {
		spec, err := proto.Marshal(s.toWire())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(spec, []byte(config))
	}
	add(containerLike(), `{"image":"web","mount":[{"target":"/a"}],"labels":{"a":"b"}}`)
	add(containerLike(), `{"image":"${env.x}"}`)
	add(Fields(map[string]Schema{"x": BlockList("x", Fields(map[string]Schema{"y": Attr("y", "any")}))}), `{"x":[{"y":1},{"y":"a"}]}`)
	add(Fields(map[string]Schema{"x": Default(Attr("x", "number"), `"text"`)}), `{}`)
	f.Fuzz(func(t *testing.T, spec, config []byte) {
		var w wire.Spec
		var c map[string]any
		if proto.Unmarshal(spec, &w) != nil || json.Unmarshal(config, &c) != nil {
			return
		}
		data, err := Schema{&w}.Encode(c, map[string]string{"x": "1", "x.y": "2"})
		if err != nil {
			return
		}
		var got map[string]any
		if err := (Config{data}).Decode(&got); err != nil {
			t.Errorf("what was encoded cannot be decoded: %v", err)
		}
	})
}

// FuzzMessages gives the host's side messages of a hostile plugin. Converting there and back must lose nothing.
func FuzzMessages(f *testing.F) {
	add := func(m proto.Message) {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	add(fullTask().toWire())
	add((&TaskHandle{Version: 1, Config: fullTask(), DriverState: []byte{1}}).toWire())
	add(Fingerprint{Attributes: map[string]string{"a": "b"}, Health: Healthy}.toWire())
	add(&wire.PluginInfoResponse{Type: wire.PluginType_PLUGIN_TYPE_DRIVER, PluginApiVersions: []string{"v0.1.0"}, PluginVersion: "1.0", Name: "x"})
	add(fullUsage().toWire())
	f.Fuzz(func(t *testing.T, data []byte) {
		var handle wire.TaskHandle
		if proto.Unmarshal(data, &handle) == nil {
			h := handleFromWire(&handle)
			if again := handleFromWire(h.toWire()); !equal(h, again) {
				t.Errorf("%+v became %+v", h, again)
			}
		}
		var fingerprint wire.FingerprintResponse
		if proto.Unmarshal(data, &fingerprint) == nil {
			if got := fingerprintFromWire(&fingerprint); len(got.Attributes) > maxAttributes || got.Health > Healthy || got.Health < Undetected {
				t.Errorf("fingerprint %+v", got)
			}
		}
		var about wire.PluginInfoResponse
		if proto.Unmarshal(data, &about) == nil {
			if got, err := infoFromWire(&about); err == nil && (got.Name == "" || got.Version == "") {
				t.Errorf("info %+v", got)
			}
		}
		var stats wire.TaskStats
		if proto.Unmarshal(data, &stats) == nil {
			usageFromWire(&stats)
		}
		var inspect wire.InspectTaskResponse
		if proto.Unmarshal(data, &inspect) == nil {
			statusFromWire(&inspect)
		}
		var config wire.SetConfigRequest
		if proto.Unmarshal(data, &config) == nil {
			hostFromWire(config.GetHost())
			var v struct {
				A string         `codec:"a"`
				B map[string]any `codec:"b"`
			}
			(Config{config.GetMsgpackConfig()}).Decode(&v)
		}
	})
}
