package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/examples/internal/web"
)

// domainOutput shows an admin the claim, and the DNS record that verifies it.
type domainOutput struct {
	Name     string `json:"name"`
	Verified bool   `json:"verified"`
	Record   string `json:"txt_record"`
	Value    string `json:"txt_value"`
}

func output(c DomainClaim) domainOutput {
	return domainOutput{c.Name, c.VerifiedAt != nil, "_tenancy." + c.Name, c.Challenge}
}

func (a *api) listDomains(w http.ResponseWriter, r *http.Request) error {
	var claims []DomainClaim
	if err := a.db.WithContext(r.Context()).Order("name").Limit(maxLimit).Find(&claims).Error; err != nil {
		return err
	}
	domains := make([]domainOutput, len(claims))
	for i, c := range claims {
		domains[i] = output(c)
	}
	return web.Write(w, http.StatusOK, domains)
}

// claimDomain stores that the tenant wants to use a domain name. It has no effect until it is
// verified: the name may belong to another tenant.
func (a *api) claimDomain(w http.ResponseWriter, r *http.Request) error {
	var in struct{ Name string }
	if err := web.Read(w, r, &in); err != nil {
		return err
	}
	name := strings.ToLower(strings.TrimSuffix(in.Name, "."))
	if !isDomain(name) {
		return web.Refuse(http.StatusBadRequest, "name must be a domain name such as projects.example.com")
	}
	claim := DomainClaim{Name: name, Challenge: "tenancy-verify=" + rand.Text()}
	err := a.db.WithContext(r.Context()).Create(&claim).Error
	if errors.Is(err, gorm.ErrDuplicatedKey) {
		return web.Refuse(http.StatusConflict, "you have claimed it already")
	}
	if err != nil {
		return err
	}
	return web.Write(w, http.StatusCreated, output(claim))
}

var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)

// isDomain reports whether name is a public domain name, and not a subdomain of the base, which already has its tenant.
func isDomain(name string) bool {
	return len(name) <= 240 && domainName.MatchString(name) && !strings.HasSuffix("."+name, "."+base)
}

// verifyDomain gives a claimed domain to the tenant, if DNS holds the challenge and no other tenant has the domain.
func (a *api) verifyDomain(w http.ResponseWriter, r *http.Request) error {
	claim, err := a.claim(r)
	if err != nil {
		return err
	}
	found, err := a.lookUp(r.Context(), output(claim).Record)
	if err != nil {
		return web.Refuse(http.StatusServiceUnavailable, "DNS did not answer: try again")
	}
	if !slices.Contains(found, claim.Challenge) {
		return web.Refuse(http.StatusConflict, "the TXT record was not found, or has another value")
	}
	err = a.db.WithContext(r.Context()).Transaction(func(tx *gorm.DB) error {
		created := tx.Clauses(clause.OnConflict{DoNothing: true}).
			Create(&Domain{Name: claim.Name, TenantID: claim.TenantID, ClaimID: claim.ID})
		if created.Error != nil {
			return created.Error
		}
		if created.RowsAffected == 0 && claim.VerifiedAt == nil {
			return web.Refuse(http.StatusConflict, "the domain is another tenant's")
		}
		now := time.Now()
		return tx.Model(&claim).Updates(DomainClaim{VerifiedAt: &now}).Error
	})
	if err != nil {
		return err
	}
	a.byDomain.Forget(claim.Name)
	return web.Write(w, http.StatusOK, output(claim))
}

// dropDomain deletes the claim, and PostgreSQL the domain with it.
func (a *api) dropDomain(w http.ResponseWriter, r *http.Request) error {
	claim, err := a.claim(r)
	if err != nil {
		return err
	}
	if err := a.db.WithContext(r.Context()).Delete(&claim).Error; err != nil {
		return err
	}
	a.byDomain.Forget(claim.Name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// claim returns the tenant's claim of the name in the path.
func (a *api) claim(r *http.Request) (claim DomainClaim, err error) {
	name := r.PathValue("name")
	if !isDomain(name) {
		return claim, gorm.ErrRecordNotFound
	}
	err = a.db.WithContext(r.Context()).Where("name = ?", name).Take(&claim).Error
	return claim, err
}

// lookUp returns the TXT records of a name. There may be no records.
func (a *api) lookUp(ctx context.Context, name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found, err := a.txt.LookupTXT(ctx, name)
	if dns := new(net.DNSError); errors.As(err, &dns) && dns.IsNotFound {
		return nil, nil
	}
	return found, err
}
