# Three instances of a small HTTP service, each on a port of its node that is free. "brume job status web" shows the
# ports; a new version replaces one instance at a time, the next only once the last has been healthy for a while.

variable "count" {
  type    = number
  default = 3

  validation {
    condition     = var.count >= 1 && var.count <= 100
    error_message = "count must be 1 to 100."
  }
}

variable "brume" {
  type        = string
  default     = "brume"
  description = "The brume program, which holds the example service; found through PATH unless it is a path"
}

job "web" {
  type = "service"

  update {
    max_parallel     = 1
    min_healthy_time = "1s"
  }

  group "web" {
    count = var.count

    network {
      port "http" {}
    }

    service {
      name     = "web"
      port     = "http"
      provider = "nomad"
      tags     = ["example"]
    }

    restart {
      attempts = 3
      interval = "5m"
      delay    = "2s"
      mode     = "fail"
    }

    task "server" {
      driver       = "raw_exec"
      kill_timeout = "5s"

      config {
        command = var.brume
        args    = ["example-web"] # serves HTTP on the port in NOMAD_PORT_http
      }

      resources {
        cpu    = 50 # MHz
        memory = 64 # MiB
      }
    }
  }
}
