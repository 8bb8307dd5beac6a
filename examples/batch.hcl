# Work that runs to its end, in as many pieces as "steps" says, each a group of its own. A piece that fails is tried
# again; the job is complete when all pieces are.

variable "steps" {
  type    = list(string)
  default = ["fetch", "count", "report"]
}

locals {
  script = <<-EOT
    echo "step $STEP begins on $NODE"
    i=0
    while [ $i -lt 5 ]; do
      i=$((i + 1))
      echo "step $STEP: $i of 5"
    done
    echo "step $STEP is done"
  EOT
}

job "batch" {
  type     = "batch"
  priority = 30

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  dynamic "group" {
    for_each = var.steps
    labels   = [group.value]

    content {
      restart {
        attempts = 2
        interval = "10m"
        delay    = "1s"
      }

      task "work" {
        driver = "raw_exec"

        config {
          command = "/bin/sh"
          args    = ["-c", local.script]
        }

        env {
          STEP = group.value
          NODE = "${node.unique.name}"
        }

        resources {
          cpu    = 50 # MHz
          memory = 32 # MiB
        }
      }
    }
  }
}
