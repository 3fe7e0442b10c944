package main

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

// The handlers of this file use the one *gorm.DB of the program with the context of the request. Prefer this way: nothing
// has to be made or kept for a tenant, and the tenant is in one place only, the context.

// pageSize is how many rows a page of a list has.
const pageSize = 10

// patientList is a page of patients.
type patientList struct {
	Query    string
	Patients []Patient
	Pager    pager
}

func (a *app) listPatients(w http.ResponseWriter, r *http.Request) error {
	list, err := findPatients(a.db.WithContext(r.Context()), r)
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, "patients", view{Title: "Patients", Nav: "patients", Body: list})
}

// findPatients searches the patients that db shows: those of one clinic, or of all if db is the bypass client. It does not
// name the clinic.
func findPatients(db *gorm.DB, r *http.Request) (list patientList, err error) {
	list.Query = text(r, "q", 100)
	match := func(db *gorm.DB) *gorm.DB {
		if list.Query == "" {
			return db
		}
		pattern := contains(list.Query)
		return db.Where("(patients.name ILIKE ? OR patients.chart ILIKE ? OR patients.phone ILIKE ?)", pattern, pattern, pattern)
	}
	var total int64
	if err := db.Model(&Patient{}).Scopes(match).Count(&total).Error; err != nil {
		return list, err
	}
	list.Pager = newPager(r, total, pageSize)
	return list, db.Scopes(match).Order("lower(patients.name), patients.id").
		Offset(list.Pager.offset(pageSize)).Limit(pageSize).Find(&list.Patients).Error
}

// patientForm holds the fields as typed.
type patientForm struct {
	ID                       int64 // 0 for a new patient
	Version                  int64
	Chart, Name, Born, Phone string
	Notes                    string
	Wrong                    map[string]string // what is wrong, by field
	Conflict                 *Patient          // the saved patient, if another user has changed it meanwhile
}

var chartForm = regexp.MustCompile(`^[A-Z]{1,3}-[0-9A-Za-z-]{1,24}$`)

// readPatient reads the fields that users may change. It reads no id and no clinic.
func readPatient(r *http.Request) (p Patient, form patientForm) {
	form = patientForm{
		Chart: text(r, "chart", 30), Name: text(r, "name", 120), Born: text(r, "born", 10), Phone: text(r, "phone", 40),
		Notes: text(r, "notes", 2000), Wrong: map[string]string{},
	}
	form.Version, _ = strconv.ParseInt(r.PostFormValue("version"), 10, 64)
	born, ok := day(form.Born, time.Now())
	if !ok {
		form.Wrong["born"] = "Enter a date of birth that is not in the future."
	}
	if form.Name == "" {
		form.Wrong["name"] = "Enter the patient’s name."
	}
	if !chartForm.MatchString(form.Chart) {
		form.Wrong["chart"] = "Enter a chart number such as A-1001: letters, a hyphen, digits."
	}
	return Patient{Chart: form.Chart, Name: form.Name, Born: born, Phone: form.Phone, Notes: form.Notes}, form
}

func (a *app) newPatientPage(w http.ResponseWriter, r *http.Request) error {
	return a.showForm(w, r, http.StatusOK, patientForm{})
}

func (a *app) showForm(w http.ResponseWriter, r *http.Request, status int, form patientForm) error {
	title := "Add a patient"
	if form.ID != 0 {
		title = "Edit " + form.Name
	}
	return a.render(w, r, status, "patient_form", view{Title: title, Nav: "patients", Body: form})
}

func (a *app) addPatient(w http.ResponseWriter, r *http.Request) error {
	patient, form := readPatient(r)
	if len(form.Wrong) > 0 {
		return a.showForm(w, r, http.StatusUnprocessableEntity, form)
	}
	patient.Version = 1
	err := a.db.WithContext(r.Context()).Create(&patient).Error
	if isTaken(err) {
		form.Wrong["chart"] = "Another patient has this chart number."
		return a.showForm(w, r, http.StatusConflict, form)
	}
	if err != nil {
		return err
	}
	a.say(r, patient.Name+" has been added.")
	http.Redirect(w, r, patientPath(patient.ID), http.StatusSeeOther)
	return nil
}

func patientPath(id int64) string { return fmt.Sprintf("/patients/%d", id) }

// isTaken reports whether a unique index has refused the row
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
func isTaken(err error) bool {
	pg := new(pgconn.PgError)
	return errors.As(err, &pg) && pg.Code == "23505"
}

func (a *app) showPatient(w http.ResponseWriter, r *http.Request) error {
	return a.showPatientWith(w, r, http.StatusOK, appointmentForm{})
}

// patientPage is one patient, with a form for an appointment.
type patientPage struct {
	Patient     Patient
	Appointment appointmentForm
}

func (a *app) showPatientWith(w http.ResponseWriter, r *http.Request, status int, form appointmentForm) error {
	id, err := id(r)
	if err != nil {
		return err
	}
	page := patientPage{Appointment: form}
	latest := func(db *gorm.DB) *gorm.DB { return db.Order("at DESC").Limit(20) }
	if err := a.db.WithContext(r.Context()).Preload("Appointments", latest).First(&page.Patient, id).Error; err != nil {
		return err
	}
	return a.render(w, r, status, "patient", view{Title: page.Patient.Name, Nav: "patients", Body: page})
}

func (a *app) editPatientPage(w http.ResponseWriter, r *http.Request) error {
	id, err := id(r)
	if err != nil {
		return err
	}
	var p Patient
	if err := a.db.WithContext(r.Context()).First(&p, id).Error; err != nil {
		return err
	}
	return a.showForm(w, r, http.StatusOK, patientForm{
		ID: p.ID, Version: p.Version, Chart: p.Chart, Name: p.Name, Born: p.Born.Format(dayLayout), Phone: p.Phone, Notes: p.Notes,
	})
}

// editPatient changes the row only if its version is the one that was shown. The query needs no clinic: the policies hide the
// rows of other clinics.
func (a *app) editPatient(w http.ResponseWriter, r *http.Request) error {
	id, err := id(r)
	if err != nil {
		return err
	}
	patient, form := readPatient(r)
	form.ID = id
	db := a.db.WithContext(r.Context())
	var stored Patient
	if err := db.First(&stored, id).Error; err != nil {
		return err
	}
	if len(form.Wrong) > 0 {
		return a.showForm(w, r, http.StatusUnprocessableEntity, form)
	}
	patient.Version = form.Version + 1
	done := db.Model(&Patient{}).Where("id = ? AND version = ?", id, form.Version).
		Select("chart", "name", "born", "phone", "notes", "version").Updates(&patient)
	switch {
	case isTaken(done.Error):
		form.Wrong["chart"] = "Another patient has this chart number."
		return a.showForm(w, r, http.StatusConflict, form)
	case done.Error != nil:
		return done.Error
	case done.RowsAffected == 0:
		form.Version, form.Conflict = stored.Version, &stored
		return a.showForm(w, r, http.StatusConflict, form)
	}
	a.say(r, "The changes to "+patient.Name+" have been saved.")
	http.Redirect(w, r, patientPath(id), http.StatusSeeOther)
	return nil
}
