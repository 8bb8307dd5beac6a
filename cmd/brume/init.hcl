# A job is groups of tasks; a group's tasks run together on one machine.
# "brume job run" submits this file, follows it and shows where its port is.

variable "greeting" {
  type        = string
  default     = "Hello from Brume"
  description = "What the task says; set it with --var greeting=..."
}

job "example" {
  # "service" keeps the tasks running; "batch" runs them once, to the end.
  type = "service"

  group "app" {
    count = 1

    network {
      port "http" {} # a free port of the machine, told to the task as NOMAD_PORT_http
    }

    restart {
      attempts = 2
      interval = "30m"
      delay    = "15s"
      mode     = "fail"
    }

    task "server" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo \"$GREETING on port $NOMAD_PORT_http\"; exec sleep 86400"]
      }

      env {
        GREETING = var.greeting
      }

      resources {
        cpu    = 100 # MHz
        memory = 64  # MiB
      }
    }
  }
}
