job "web" {
  group "web" {
    count = = 3
    network { port "http" {} }
  }
