# All that is accepted, once.
variable "image" {
  type        = string
  default     = "v1"
  description = "unused by the assertions"
}

locals {
  command = "/bin/${local.name}"
  name    = "web-${var.image}"
}

job "shop/web" {
  name        = "Shop"
  region      = "global"
  namespace   = "default"
  datacenters = ["dc1", "eu-*"]
  node_pool   = "big"
  priority    = 70

  group "web" {
    count          = 3
    shutdown_delay = "4s"

    task "server" {
      driver         = "raw_exec"
      user           = "www"
      leader         = true
      kill_timeout   = "1m30s"
      kill_signal    = "SIGINT"
      shutdown_delay = "0s"

      config {
        command = local.command
        args    = ["--port", "${NOMAD_PORT_http}", "--ratio", 0.5]

        mount {
          type = "bind"
        }
        mount {
          type = "tmpfs"
        }
        logging {
          driver = "none"
        }
        labels = {
          a = 1
        }
      }

      env {
        PORT  = 80
        DEBUG = true
      }

      meta = {
        owner = "shop"
      }

      constraint {
        attribute = "${attr.cpu.arch}"
        operator  = "set_contains_any"
        value     = "amd64,arm64"
      }

      resources {
        cpu    = 500
        memory = 256
      }

      restart {
        attempts = 0
        mode     = "fail"
      }

      logs {
        max_files     = 3
        max_file_size = 20
      }
    }

    task "side" {
      driver = "raw_exec"
    }

    # After the tasks that inherit it.
    restart {
      attempts = 5
      delay    = "3s"
      interval = "10m"
      mode     = "delay"
    }

    reschedule {
      delay = "1m"
    }

    network {
      mode = "host"
      port "admin" {
        static = 9000
      }
      port "http" {
        to = 8080
      }
    }

    service {
      port     = "http"
      provider = "nomad"
      tags     = ["a", "b"]
      meta {
        weight = 1
      }
      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "2s"
        header {
          Accept = ["text/plain"]
        }
      }
    }

    constraint {
      distinct_hosts = true
    }
    constraint {
      attribute = "${attr.nomad.version}"
      semver    = ">= 1.5"
    }
    constraint {
      distinct_property = "${meta.rack}"
      value             = 2
    }
    constraint {
      is_set = "${meta.ssd}"
    }
    constraint {
      attribute = "${attr.os.name}"
      regexp    = "^(debian|ubuntu)$"
    }
  }

  task "alone" {
    driver = "fake"
  }

  # After the groups that inherit them, type last of all.
  update {
    max_parallel     = 2
    min_healthy_time = "0s"
  }
  meta {
    team = "shop"
  }
  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }
  type = "service"
}
