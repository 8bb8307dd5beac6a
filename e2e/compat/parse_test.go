package compat

import (
	"testing"

	public "github.com/hashicorp/nomad/api"
)

const parsedHCL = `
variable "count" { type = number }

job "parsed" {
  type = "batch"
  group "g" {
    count = var.count
    task "main" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo ${NOMAD_ALLOC_ID}"]
      }
    }
  }
}
`

// parsedJob is what the hub makes of parsedHCL with a count of 4.
func parsedJob(t *testing.T) *public.Job {
	want := batchJob("parsed", "echo ${NOMAD_ALLOC_ID}")
	want.TaskGroups[0].Count = new(4)
	want.Canonicalize()
	for _, d := range differences {
		d.apply(want)
	}
	want.SubmitTime = new(int64(0))
	return want
}
