variable "instances" {
  type     = number
  default  = 3
  sensitve = true
}

job "shop" {
  typ = "service"

  spread {
    attribute = "${node.datacenter}"
  }

  group "web" {
    count = var.instance

    network {
      mode = "bridge"
      port "http" {
        static = 99999
      }
    }

    update {
      canary       = 1
      max_parallel = 2
    }

    task "nginx" {
      driver       = "docker"
      kill_timeout = 30
      kill_signal  = "TERM"

      config {
        image = "nginx:${vars.version}"
      }

      template {
        destination = "local/nginx.conf"
      }

      resources {
        memory = 5
      }
    }

    task "log" {
      config {}
    }
  }
}
