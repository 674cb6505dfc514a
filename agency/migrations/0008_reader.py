"""The reading role sees the tenants' tables that are there; those made later see to it themselves."""

from django.db import migrations

from agency.tenancy import READER_SQL


class Migration(migrations.Migration):
    dependencies = [
        ("agency", "0007_way_back"),
    ]

    operations = [
        migrations.RunSQL(READER_SQL, migrations.RunSQL.noop),
    ]
