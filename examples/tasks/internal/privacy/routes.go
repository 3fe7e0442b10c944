package privacy

import (
	"context"
	"io"
	"net/http"
	"os"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/roles"
)

// Routes adds the routes of the package. Their answers are never remembered for an Idempotency-Key.
func (s *Service) Routes(a *api.API) {
	const write = "privacy:write"
	api.Add(a, api.Route{
		Method: http.MethodPost, Path: "/v1/privacy/exports", ID: "exportPerson", Permission: write,
		Summary: "Export what the tenant holds of a person, as a tar archive of JSON", ShowsSecret: true, Errors: []int{404},
	}, s.export)
	api.Add(a, api.Route{
		Method: http.MethodPost, Path: "/v1/privacy/erasures", ID: "erasePerson", Permission: write,
		Summary: "Erase what the tenant holds of a person, or say what that would do", ShowsSecret: true, Errors: []int{404, 409},
	}, s.erase)
}

type exportInput struct {
	Body struct {
		Email string `json:"email" format:"email" maxLength:"254"`
	}
}

func (s *Service) export(ctx context.Context, in *exportInput) (*huma.StreamResponse, error) {
	file, err := s.Export(ctx, in.Body.Email)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(w huma.Context) { send(w, file) }}, nil
}

func send(w huma.Context, file *os.File) {
	defer func() { _ = file.Close() }()
	w.SetHeader("Content-Type", "application/x-tar")
	w.SetHeader("Content-Disposition", `attachment; filename="export.tar"`)
	_, _ = io.Copy(w.BodyWriter(), file) // fails if the client has gone: the archive has no manifest then
}

type eraseInput struct {
	Body struct {
		Email  string `json:"email" format:"email" maxLength:"254"`
		DryRun bool   `json:"dry_run" doc:"true says what would be done, and changes nothing"`
	}
}

func (s *Service) erase(ctx context.Context, in *eraseInput) (*struct{ Body Report }, error) {
	report, err := s.Erase(ctx, in.Body.Email, in.Body.DryRun)
	return &struct{ Body Report }{report}, roles.Problem(err)
}
