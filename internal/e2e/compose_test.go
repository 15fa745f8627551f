package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	compose "github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"

	"slipway/internal/config"
	"slipway/internal/postgres/pgembed"
)

// root is where docker-compose.yml is.
var root = filepath.Join("..", "..")

// composeProject reads docker-compose.yml with Compose's own loader.
func composeProject(t *testing.T, dir string) *types.Project {
	t.Helper()
	o, err := compose.NewProjectOptions([]string{filepath.Join(dir, "docker-compose.yml")},
		compose.WithWorkingDirectory(dir), compose.WithEnvFiles(), compose.WithDotEnv)
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// composeDir is a folder with the files that Compose reads, and with an .env if it has any lines.
func composeDir(t *testing.T, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string][]byte{}
	for _, name := range []string{"docker-compose.yml", "simulators.env"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	if len(env) > 0 {
		files[".env"] = []byte(strings.Join(env, "\n"))
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestComposeServicesAsProcesses stands in for `docker compose up`, curl and `docker compose down`.
func TestComposeServicesAsProcesses(t *testing.T) {
	t.Parallel()
	up := &composition{project: composeProject(t, composeDir(t)), here: placeHere(t), running: map[string]*process{}}
	up.start(t, up.project.ServiceNames())

	s := &stack{url: "http://" + up.here.address("127.0.0.1:3000"), sim: "http://" + up.here.address("sim.localhost:3001")}
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		path, sum := file(t, "film.mp4", 45*mib) // goes in parts to both
		var u uploadView
		curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-F", "file=@"+path, "-F", "provider="+provider)
		done := s.awaitStatus(t, time.Minute, u.ID, "completed")
		if done.Asset == nil || !strings.HasPrefix(done.Asset.URL, s.sim+"/") {
			t.Errorf("completed with %+v, want an asset at %s", done.Asset, s.sim)
		}
		if got := sumAt(t, s.url+"/v1/files/"+u.ID+"/content"); got != sum {
			t.Errorf("%s has other bytes than were sent", provider)
		}
	}
	up.stop(t)
}

// composition runs the services of a Compose file as processes of this machine.
type composition struct {
	project *types.Project
	here    here
	started []string // in this order
	running map[string]*process
}

// start starts services after what they depend on, and waits until they are what others wait for.
func (c *composition) start(t *testing.T, names []string) {
	t.Helper()
	for _, name := range names {
		if slices.Contains(c.started, name) {
			continue
		}
		service := c.project.Services[name]
		c.start(t, service.GetDependencies())
		c.started = append(c.started, name)
		if name == "postgres" {
			c.here.startPostgres(t, service)
			continue
		}
		env := c.here.environment(t, service)
		command := c.here.all(service, service.Command)
		p := start(t, env, command[0], command[1:]...)
		c.running[name] = p
		if service.HealthCheck == nil { // it is waited for until it completes
			p.wait(t, time.Minute)
			continue
		}
		check := c.here.all(service, service.HealthCheck.Test[1:])
		await(t, time.Minute, name+" to be healthy", func() bool {
			select {
			case <-p.done:
				t.Fatalf("%s ended: %v", name, p.err)
			default:
			}
			asked := start(t, env, check[0], check[1:]...)
			<-asked.done
			return asked.err == nil
		})
	}
}

// stop ends the services in the reverse order, each in the time it is given.
func (c *composition) stop(t *testing.T) {
	t.Helper()
	for _, name := range slices.Backward(c.started) {
		p, ok := c.running[name]
		if !ok {
			continue
		}
		if grace := c.project.Services[name].StopGracePeriod; grace != nil {
			p.stop(t, time.Duration(*grace))
		}
		if p.err != nil {
			t.Errorf("%s ended with %v", name, p.err)
		}
	}
}

// here is where on this machine the things are that containers have under names, ports and folders of
// their own. What it replaces is all that differs from the file.
type here struct {
	addresses *strings.Replacer
	ports     map[string]string // by the port in a container
	volumes   map[string]string // folders by the name of the volume
}

// placeHere finds free ports and folders.
func placeHere(t *testing.T) here {
	t.Helper()
	h := here{
		ports:   map[string]string{"3000": freePort(t), "3001": freePort(t), "3003": freePort(t), "5432": freePort(t)},
		volumes: map[string]string{"staging": t.TempDir(), "simulators": t.TempDir()},
	}
	var pairs []string
	for _, name := range [][2]string{
		{"postgres", "127.0.0.1"}, {"sim.localhost", "127.0.0.1"}, {"parts.localhost", "localhost"}, {"127.0.0.1", "127.0.0.1"},
	} {
		for port, free := range h.ports {
			pairs = append(pairs, name[0]+":"+port, name[1]+":"+free)
		}
	}
	h.addresses = strings.NewReplacer(pairs...)
	return h
}

// lastPort is the one that freePort gave last. They are below those that are given to whoever asks for any, one of whom
// would have it before it is listened on, or while the program on it is restarted.
var lastPort = 11_000 + rand.Int32N(10_000)

func freePort(t *testing.T) string {
	t.Helper()
	for {
		port := strconv.Itoa(int(atomic.AddInt32(&lastPort, 1)))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			continue
		case err != nil:
			t.Fatal(err)
		}
		l.Close()
		return port
	}
}

// address is where host:port in a value leads to.
func (h here) address(value string) string { return h.addresses.Replace(value) }

// all is a command as it is run here.
func (h here) all(service types.ServiceConfig, words []string) []string {
	var out []string
	for _, word := range words {
		out = append(out, h.value(service, word))
	}
	return out
}

// environment is that of a container, which has nothing but what the file gives it.
func (h here) environment(t *testing.T, service types.ServiceConfig) map[string]string {
	t.Helper()
	env := map[string]string{}
	for name, value := range service.Environment {
		if value == nil {
			t.Fatalf("%s: %s has no value, so it would be taken from whoever starts it", service.Name, name)
		}
		env[name] = h.value(service, *value)
	}
	if env["HOST"] == "" {
		env["HOST"] = "127.0.0.1"
	}
	return env
}

func (h here) value(service types.ServiceConfig, value string) string {
	for _, v := range service.Volumes {
		if v.Target == value {
			return h.volumes[v.Source]
		}
	}
	if port, ok := h.ports[value]; ok {
		return port
	}
	if value == "0.0.0.0" {
		return "127.0.0.1"
	}
	return h.address(value)
}

// startPostgres stands in for the image of postgres: the server has the user and the database that it
// makes at its first start.
func (h here) startPostgres(t *testing.T, service types.ServiceConfig) {
	t.Helper()
	dir, err := os.MkdirTemp(pgembed.EphemeralParent(), "slipway-compose")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port, err := strconv.Atoi(h.ports["5432"])
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgembed.Start(t.Context(), pgembed.Options{Dir: dir, Ephemeral: true, Port: port, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})

	user, password, database := *service.Environment["POSTGRES_USER"], *service.Environment["POSTGRES_PASSWORD"], *service.Environment["POSTGRES_DB"]
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	statements := []string{fmt.Sprintf("CREATE DATABASE %s OWNER %s", database, user)}
	if role := fmt.Sprintf("ROLE %s SUPERUSER LOGIN PASSWORD '%s'", user, password); user == conn.Config().User {
		statements = append([]string{"ALTER " + role}, statements...)
	} else {
		statements = append([]string{"CREATE " + role}, statements...)
	}
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
}

// wait waits for the program to complete.
func (p *process) wait(t *testing.T, limit time.Duration) {
	t.Helper()
	select {
	case <-p.done:
		if p.err != nil {
			t.Fatalf("%s ended with %v", p.name, p.err)
		}
	case <-time.After(limit):
		t.Fatalf("%s did not complete within %s", p.name, limit)
	}
}

func TestComposeFile(t *testing.T) {
	t.Parallel()
	p := composeProject(t, composeDir(t))
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, []string{"api", "migrate", "postgres", "simulators", "worker"}) {
		t.Fatalf("there are %v", got)
	}
	for name, s := range p.Services {
		t.Run(name+" can be reached from this machine alone", func(t *testing.T) {
			published := map[string]string{"api": "3000", "simulators": "3001"}[name]
			for _, port := range s.Ports {
				if port.HostIP != "127.0.0.1" || port.Published != published {
					t.Errorf("publishes %s:%s", port.HostIP, port.Published)
				}
			}
			if len(s.Ports) == 0 && published != "" {
				t.Errorf("does not publish %s", published)
			}
		})
		t.Run(name+" can be looked after", func(t *testing.T) {
			if name == "migrate" {
				if s.Restart != "no" {
					t.Errorf("restarts %s, and would begin anew for ever", s.Restart)
				}
				return
			}
			if s.HealthCheck == nil || s.HealthCheck.Test[0] != "CMD" {
				t.Errorf("has the health check %+v, want a command without a shell", s.HealthCheck)
			}
			if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) != 40*time.Second {
				t.Errorf("is given %v to stop, want 40s", s.StopGracePeriod)
			}
			if s.Restart != "unless-stopped" {
				t.Errorf("restarts %q", s.Restart)
			}
		})
		if name == "postgres" {
			continue
		}
		t.Run(name+" can do no more than it must", func(t *testing.T) {
			if !s.ReadOnly || s.Privileged || s.User != "" || !slices.Contains(s.CapDrop, "ALL") {
				t.Errorf("read_only %t, privileged %t, user %q, cap_drop %v", s.ReadOnly, s.Privileged, s.User, s.CapDrop)
			}
		})
	}
	t.Run("what the API stages is where the worker looks for it", func(t *testing.T) {
		for _, name := range []string{"api", "worker"} {
			s := p.Services[name]
			dir := *s.Environment["STAGING_DIR"]
			if !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Source == "staging" && v.Target == dir }) {
				t.Errorf("%s has no volume staging at %s", name, dir)
			}
		}
	})
	t.Run("nobody starts before what it needs", func(t *testing.T) {
		needs := map[string]map[string]string{
			"migrate": {"postgres": types.ServiceConditionHealthy},
			"api":     {"migrate": types.ServiceConditionCompletedSuccessfully, "simulators": types.ServiceConditionHealthy},
			"worker":  {"migrate": types.ServiceConditionCompletedSuccessfully, "simulators": types.ServiceConditionHealthy},
		}
		for name, s := range p.Services {
			got := map[string]string{}
			for other, d := range s.DependsOn {
				got[other] = d.Condition
			}
			if !maps.Equal(got, needs[name]) {
				t.Errorf("%s depends on %v, want %v", name, got, needs[name])
			}
		}
	})
	t.Run("Postgres is not taken for ready while its image sets it up", func(t *testing.T) {
		// That server has a socket only.
		s := p.Services["postgres"]
		want := []string{
			"CMD", "pg_isready", "--host=127.0.0.1",
			"--username=" + *s.Environment["POSTGRES_USER"], "--dbname=" + *s.Environment["POSTGRES_DB"],
		}
		if !slices.Equal(s.HealthCheck.Test, want) {
			t.Errorf("asks %v, want %v", s.HealthCheck.Test, want)
		}
	})
	t.Run("one service builds the image of all", func(t *testing.T) {
		// Several that build the same tag at once are refused by some engines.
		var build, image []string
		for name, s := range p.Services {
			if s.Build != nil {
				build = append(build, name)
			}
			if name != "postgres" {
				image = append(image, s.Image)
			}
		}
		if !slices.Equal(build, []string{"migrate"}) || len(slices.Compact(image)) != 1 {
			t.Errorf("%v build, and the images are %v", build, image)
		}
	})
}

func TestComposeSettings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		env        []string // lines of .env
		simulators int
		base       string // of Uploadcare
		database   string
	}{
		"without an .env everything is simulated": {
			nil, 1, "http://sim.localhost:3001", "postgres://app:slipway@postgres:5432/slipway",
		},
		"an .env of accounts names no simulator": {
			[]string{
				"SLIPWAY_ENV_FILE=.env", "SIMULATORS=0", "HOST=127.0.0.1", "DEV_USER=user_123",
				"UPLOADCARE_PUBLIC_KEY=pk", "UPLOADCARE_SECRET_KEY=sk",
				"CLOUDINARY_CLOUD_NAME=c", "CLOUDINARY_API_KEY=1", "CLOUDINARY_API_SECRET=s",
				"DATABASE_URL=postgresql://u:p@ep-a-pooler.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
			}, 0, "", "postgresql://u:p@ep-a.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
		},
	}
	needs := map[string]config.Need{
		"migrate": config.NeedDatabase, "api": config.NeedDatabase | config.NeedAPI, "worker": config.NeedDatabase | config.NeedWorker,
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := composeProject(t, composeDir(t, tt.env...))
			simulators := p.Services["simulators"]
			if got := simulators.GetScale(); got != tt.simulators {
				t.Errorf("%d containers of simulators start, want %d", got, tt.simulators)
			}
			for service, need := range needs {
				s := p.Services[service]
				if d, ok := s.DependsOn["simulators"]; ok && d.Required {
					t.Errorf("%s cannot start without simulators", service)
				}
				var environ []string
				for name, value := range s.Environment {
					environ = append(environ, name+"="+*value)
					if tt.simulators == 0 && strings.Contains(*value, "sim") {
						t.Errorf("%s of %s is %s", name, service, *value)
					}
				}
				c, err := config.Load(config.Options{Environ: environ, Need: need})
				if err != nil {
					t.Errorf("%s: %v", service, err)
				}
				if c.Uploadcare.UploadBase != tt.base || c.Database.DirectURL.Reveal() != tt.database {
					t.Errorf("%s would go to %q and %q", service, c.Uploadcare.UploadBase, c.Database.DirectURL.Reveal())
				}
				if want := []string{"uploadcare", "cloudinary"}; !slices.Equal(c.Delivery.Providers, want) {
					t.Errorf("%s has the providers %v, want %v", service, c.Delivery.Providers, want)
				}
				if service != "migrate" && (c.HTTP.Host != "" || c.HTTP.Port != 3000 || c.WorkerPort != 3003) {
					t.Errorf("%s would listen on %q, ports %d and %d", service, c.HTTP.Host, c.HTTP.Port, c.WorkerPort)
				}
			}
		})
	}
}
