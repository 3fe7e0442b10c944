package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/passwords"
)

// demoUser is a user of the demonstration, whose password the login page shows.
type demoUser struct {
	Name, Job, Email string
	Clinic           int64 // 1 to 6; 0 is the head office
	Number           int   // within the clinic
	Also             []int64
}

// Password is made so that it is easy to type: clinic3-user2.
func (u demoUser) Password() string {
	if u.Clinic == 0 {
		return "head-office"
	}
	return fmt.Sprintf("clinic%d-user%d", u.Clinic, u.Number)
}

var demoClinics = []Clinic{
	{ID: 1, Name: "Alder Lane Practice", Town: "Northmere"},
	{ID: 2, Name: "Birchwood Dental", Town: "Easterby"},
	{ID: 3, Name: "Cove Street Children’s Clinic", Town: "Saltport"},
	{ID: 4, Name: "Dovecote Physiotherapy", Town: "Millbrook"},
	{ID: 5, Name: "Elm Park Eye Centre", Town: "Westfall"},
	{ID: 6, Name: "Fernhill Heart Clinic", Town: "Highmoor"},
}

var demoUsers = []demoUser{
	{Name: "Dr Ada Lindqvist", Job: "Doctor", Email: "ada@alder.example", Clinic: 1, Number: 1, Also: []int64{2}},
	{Name: "Bao Tran", Job: "Nurse", Email: "bao@alder.example", Clinic: 1, Number: 2},
	{Name: "Carys Bevan", Job: "Reception", Email: "carys@alder.example", Clinic: 1, Number: 3},
	{Name: "Dr Dele Adeyemi", Job: "Dentist", Email: "dele@birchwood.example", Clinic: 2, Number: 1},
	{Name: "Elif Demir", Job: "Hygienist", Email: "elif@birchwood.example", Clinic: 2, Number: 2, Also: []int64{6}},
	{Name: "Finn O’Dowd", Job: "Reception", Email: "finn@birchwood.example", Clinic: 2, Number: 3},
	{Name: "Dr Greta Holm", Job: "Paediatrician", Email: "greta@cove.example", Clinic: 3, Number: 1},
	{Name: "Noor Haddad", Job: "Nurse", Email: "noor@cove.example", Clinic: 3, Number: 2, Also: []int64{1, 5}},
	{Name: "Ivo Marek", Job: "Reception", Email: "ivo@cove.example", Clinic: 3, Number: 3},
	{Name: "Jun Sato", Job: "Physiotherapist", Email: "jun@dovecote.example", Clinic: 4, Number: 1},
	{Name: "Kemi Okafor", Job: "Physiotherapist", Email: "kemi@dovecote.example", Clinic: 4, Number: 2, Also: []int64{3}},
	{Name: "Luca Ferri", Job: "Reception", Email: "luca@dovecote.example", Clinic: 4, Number: 3},
	{Name: "Dr Maya Iyer", Job: "Ophthalmologist", Email: "maya@elmpark.example", Clinic: 5, Number: 1},
	{Name: "Nils Berg", Job: "Optometrist", Email: "nils@elmpark.example", Clinic: 5, Number: 2},
	{Name: "Oona Walsh", Job: "Reception", Email: "oona@elmpark.example", Clinic: 5, Number: 3, Also: []int64{4}},
	{Name: "Dr Paulo Reis", Job: "Cardiologist", Email: "paulo@fernhill.example", Clinic: 6, Number: 1, Also: []int64{1, 3, 5}},
	{Name: "Qadira Aziz", Job: "Nurse", Email: "qadira@fernhill.example", Clinic: 6, Number: 2},
	{Name: "Rhys Morgan", Job: "Reception", Email: "rhys@fernhill.example", Clinic: 6, Number: 3},
	{Name: "Sam Whitlock", Job: "Administrator", Email: "admin@daybook.example", Number: 1},
}

// demoUserOf finds the user with this number in the clinic.
func demoUserOf(clinic int64, number int) (demoUser, bool) {
	i := slices.IndexFunc(demoUsers, func(u demoUser) bool { return u.Clinic == clinic && u.Number == number })
	if i < 0 {
		return demoUser{}, false
	}
	return demoUsers[i], true
}

var (
	givenNames = []string{"Amara", "Benedikt", "Chiara", "Dmitri", "Esther", "Farid", "Gwen", "Hiroshi", "Imani", "Joaquín",
		"Katya", "Leopold", "Mei", "Niamh", "Omar", "Priya", "Quentin", "Rosa", "Søren", "Tuva", "Umar", "Violeta", "Wanda", "Xolani"}
	familyNames = []string{"Abbott", "Bianchi", "Cohen", "Dahl", "Eriksen", "Fontaine", "Gupta", "Hughes", "Ito", "Jansen",
		"Kowalski", "Lozano", "Mbeki", "Novak", "O’Brien", "Petrov", "Quist", "Rahman", "Silva", "Tanaka", "Ueda", "Vargas",
		"Weiss", "Yilmaz", "Zhou"}
	visitReasons = []string{"First visit", "Check-up", "Follow-up", "Test results", "Prescription", "Referral"}
	patientNotes = []string{"", "", "Prefers mornings.", "Allergic to penicillin.", "Uses a wheelchair; needs room 2.", ""}
)

// childrens is the clinic whose patients are young.
const childrens = 3

// patientsEach is how many patients each clinic starts with: more than fit on one page.
const patientsEach = 24

// seed fills an empty database: users, clinics and memberships by the bypass client, each clinic's rows as that clinic.
func seed(ctx context.Context, db *gorm.DB, now time.Time, hasher *passwords.Hasher) error {
	users := newUsers(hasher)
	shared := tenancy.Bypass(db, "demonstration").WithContext(ctx)
	if err := shared.Create(slices.Clone(demoClinics)).Error; err != nil {
		return err
	}
	if err := shared.Create(users).Error; err != nil {
		return err
	}
	var memberships []Membership
	for i, u := range demoUsers {
		if u.Clinic == 0 {
			continue
		}
		for _, clinic := range append([]int64{u.Clinic}, u.Also...) {
			memberships = append(memberships, Membership{UserID: users[i].ID, TenantID: clinic})
		}
	}
	if err := shared.Omit("User", "Clinic").Create(memberships).Error; err != nil {
		return err
	}

	ids := make([]int64, len(demoClinics))
	for i, c := range demoClinics {
		ids[i] = c.ID
	}
	return tenancy.ForEachTenant(ctx, db, ids, func(ctx context.Context, tx *gorm.DB) error {
		tenant, _ := tenancy.TenantFromContext(ctx)
		clinic, err := strconv.Atoi(tenant)
		if err != nil {
			return err
		}
		return tx.WithContext(ctx).Create(newPatients(clinic, now)).Error
	})
}

// newUsers hashes the passwords of all users.
func newUsers(hasher *passwords.Hasher) []User {
	users := make([]User, len(demoUsers))
	for i, u := range demoUsers {
		users[i] = User{
			Name: u.Name, Job: u.Job, Email: u.Email, PasswordHash: hasher.Hash(u.Password()), Admin: u.Clinic == 0,
		}
	}
	return users
}

// newPatients makes a clinic's patients, each with an appointment. They do not name the tenant: the plugin fills it in.
// Their chart numbers begin with the clinic's letter, A to F.
func newPatients(clinic int, now time.Time) []Patient {
	morning := time.Date(now.Year(), now.Month(), now.Day(), 8, 0, 0, 0, now.Location())
	patients := make([]Patient, patientsEach)
	for i := range patients {
		n := i + 7*clinic
		old := 18 + (n*17)%70
		if clinic == childrens {
			old = 1 + (n*5)%16
		}
		patients[i] = Patient{
			Chart: fmt.Sprintf("%c-%d", 'A'+clinic-1, 1001+i),
			Name:  givenNames[(n*5+clinic)%len(givenNames)] + " " + familyNames[(n*3+clinic*clinic)%len(familyNames)],
			Born:  time.Date(now.Year()-old, time.Month(1+n%10), 1+(n*11)%28, 0, 0, 0, 0, time.UTC),
			Phone: fmt.Sprintf("0%d 555 %04d", 20+clinic, (n*389)%10_000),
			Notes: patientNotes[n%len(patientNotes)],
			Appointments: []Appointment{{
				At:     morning.AddDate(0, 0, i/6).Add(time.Duration(30*(i%6)+15*(clinic%3)) * time.Minute),
				Doctor: demoUsers[3*(clinic-1)].Name,
				Reason: visitReasons[n%len(visitReasons)],
			}},
		}
	}
	return patients
}
