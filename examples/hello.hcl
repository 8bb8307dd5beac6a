# A task that says hello once and ends: run it, then read its log with "brume alloc logs".

variable "name" {
  type        = string
  default     = "world"
  description = "Whom to greet"
}

job "hello" {
  type = "batch"

  group "hello" {
    task "greet" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo \"Hello, $GREETED, from allocation $NOMAD_ALLOC_ID\""]
      }

      env {
        GREETED = var.name
      }

      resources {
        cpu    = 50 # MHz
        memory = 32 # MiB
      }
    }
  }
}
