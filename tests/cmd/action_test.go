package cmd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// workflow is what the test needs of a workflow of GitHub Actions.
type workflow struct {
	On   map[string]any
	Jobs map[string]struct {
		RunsOn      string `yaml:"runs-on"`
		Permissions map[string]string
		Env         map[string]string
		Steps       []struct {
			Name, Uses, Run string
			With            map[string]any
		}
	}
}

// TestActionExample runs the checks of examples/ci/check.yml, with the roles of a database of the tests.
func TestActionExample(t *testing.T) {
	var w workflow
	text := read(t, filepath.FromSlash("../../examples/ci/check.yml"))
	require.NoError(t, yaml.Unmarshal([]byte(text), &w))
	require.Contains(t, w.On, "pull_request")
	job := w.Jobs["isolation"]
	require.NotEmpty(t, job.RunsOn)
	require.Equal(t, map[string]string{"contents": "read", "security-events": "write"}, job.Permissions)
	var scripts []string
	uploads := ""
	for _, step := range job.Steps {
		require.NotEqual(t, step.Uses == "", step.Run == "", "%v", step)
		if strings.HasPrefix(step.Uses, "github/codeql-action/upload-sarif@") {
			uploads = step.With["sarif_file"].(string)
			require.Len(t, scripts, 1, "the file is written before, and what fails comes after")
		}
		if strings.HasPrefix(step.Run, "tenancy check ") {
			scripts = append(scripts, step.Run)
		}
	}
	require.Len(t, scripts, 2)

	d := newDatabase(t)
	dir := t.TempDir()
	allowed := "" // what is wrong with the server of the tests
	for _, option := range d.options(t, "check")[7:] {
		allowed += " '" + option + "'"
	}
	run := func(script string) (int, string) {
		cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", strings.Replace(script, "tenancy check", "tenancy check"+allowed, 1))
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "DATABASE_URL="+d.Owner.DSN, "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"),
			"ROLES="+strings.NewReplacer("shop_app", d.App.Role, "shop_admin", d.Admin.Role).Replace(job.Env["ROLES"]))
		out, err := cmd.CombinedOutput()
		if exited := new(exec.ExitError); !errors.As(err, &exited) {
			require.NoError(t, err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}

	write(t, filepath.Join(dir, "tenancy.json"), `{"version": 1, "findings": []}`)
	for _, script := range scripts {
		exit, out := run(script)
		require.Equal(t, 0, exit, out)
	}
	d.spoil(t)
	exit, out := run(scripts[0])
	require.Equal(t, 0, exit, "the file is uploaded all the same: %s", out)
	require.Contains(t, read(t, filepath.Join(dir, uploads)), "table-not-enabled")
	exit, out = run(scripts[1])
	require.Equal(t, 1, exit)
	require.Contains(t, out, "table-not-enabled: public.patients")
	exit, out = run(strings.Replace(scripts[0], "$ROLES", "--app-role nobody_here", 1))
	require.NotEqual(t, 0, exit, "a check that failed leaves no file to upload")
	require.Contains(t, out, `role "nobody_here" does not exist`)
}
