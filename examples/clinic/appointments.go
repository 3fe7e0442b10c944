package main

import (
	"net/http"
	"time"

	"gorm.io/gorm"
)

// The handlers of this file make a repository for each request, around a client that has the request's context. Its
// methods then need no context. It must not outlive the request, because its context does not.

// appointmentBook is a repository of one request.
type appointmentBook struct{ db *gorm.DB }

func (a *app) appointmentBook(r *http.Request) appointmentBook {
	return appointmentBook{a.db.WithContext(r.Context())}
}

// from returns the next appointments, with their patients.
func (b appointmentBook) from(t time.Time, most int) (next []Appointment, err error) {
	return next, b.db.Joins("Patient").Where("appointments.at >= ?", t).Order("appointments.at, appointments.id").
		Limit(most).Find(&next).Error
}

// add returns gorm.ErrRecordNotFound if the patient does not exist, or is another clinic's.
func (b appointmentBook) add(x *Appointment) error {
	return b.db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Select("id").First(&Patient{}, x.PatientID).Error; err != nil {
			return err
		}
		return tx.Create(x).Error
	})
}

func (a *app) listAppointments(w http.ResponseWriter, r *http.Request) error {
	next, err := a.appointmentBook(r).from(startOfDay(time.Now()), 50)
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, "appointments", view{Title: "Appointments", Nav: "appointments", Body: next})
}

// appointmentForm holds the fields as typed.
type appointmentForm struct {
	At, Doctor, Reason string
	Wrong              map[string]string
}

func (a *app) addAppointment(w http.ResponseWriter, r *http.Request) error {
	patient, err := id(r)
	if err != nil {
		return err
	}
	form := appointmentForm{
		At: text(r, "at", 16), Doctor: text(r, "doctor", 120), Reason: text(r, "reason", 200), Wrong: map[string]string{},
	}
	at, err := time.ParseInLocation(minuteLayout, form.At, time.Local)
	if err != nil || at.Year() < 2000 || at.Year() > 2100 {
		form.Wrong["at"] = "Enter a date and time."
	}
	if form.Doctor == "" {
		form.Wrong["doctor"] = "Enter the name of the doctor."
	}
	if len(form.Wrong) > 0 {
		return a.showPatientWith(w, r, http.StatusUnprocessableEntity, form)
	}
	err = a.appointmentBook(r).add(&Appointment{PatientID: patient, At: at, Doctor: form.Doctor, Reason: form.Reason})
	if err != nil {
		return err
	}
	a.say(r, "The appointment has been booked.")
	http.Redirect(w, r, patientPath(patient), http.StatusSeeOther)
	return nil
}

func startOfDay(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}
