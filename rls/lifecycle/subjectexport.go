package lifecycle

import (
	"context"
	"io"
	"slices"
)

// Export writes what the tenant's tables hold of a person, by the person's key, as Tenants.Export writes a tenant: rows of one snapshot as lines of
// JSON in a tar archive, and a manifest with counts and hashes. All rows of the holdings are in it, but those of Unlink, which are about others, and
// the columns to omit. Import refuses such a file.
func (s Subjects) Export(ctx context.Context, tenant, key string, w io.Writer) (Manifest, error) {
	var m Manifest
	err := s.run(ctx, OpSubjectExport, tenant, key, func(p *subject) error {
		return p.inTransaction(ctx, beginReading, func() error {
			if err := p.resolve(ctx); err != nil {
				return err
			}
			e, err := p.newExport(ctx, w)
			if err != nil {
				return err
			}
			e.manifest.Subject = key
			var done []*relation
			for _, h := range p.holdings {
				if !h.owns() || slices.Contains(done, h.relation) {
					continue
				}
				done = append(done, h.relation)
				var omit []string
				for _, other := range p.owners(h.relation) {
					omit = append(omit, other.omit...)
				}
				if err := e.table(ctx, h.relation, omit, p.owned(h.relation, "t"), p.args()...); err != nil {
					return err
				}
			}
			if err := e.finish(); err != nil {
				return err
			}
			m = e.manifest
			return nil
		})
	})
	return m, err
}
