"""An invited person's way in, as they go it: link, login, authenticator, recovery codes, board."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
import time
from types import SimpleNamespace

import pytest
from allauth.mfa.totp.internal import auth as totp
from playwright.sync_api import Page, expect

from agency.choices import SecondFactor
from agency.models import Agency
from tests.browser.conftest import NewPage, SignIn, send_password
from tests.conftest import PASSWORD, TOTP_SECRET, Person

pytestmark = pytest.mark.committed


class Phone:
    """An authenticator by RFC 6238; its clock, which is the site's too, stands until a code is
    asked for and then goes on by a period and more, so that no code comes twice."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    def code(self, secret: str) -> str:
        self.now += 31
        return self._code(secret, 0)

    def _code(self, secret: str, ahead: int) -> str:
        counter = struct.pack(">Q", int(self.now) // 30 + ahead)
        digest = hmac.new(base64.b32decode(secret), counter, hashlib.sha1).digest()
        at = digest[-1] & 15
        return f"{(struct.unpack('>I', digest[at : at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"

    def wrong_code(self, secret: str) -> str:
        """Six digits that are the code neither of now nor of the periods before and after."""
        right = {self._code(secret, ahead) for ahead in (-1, 0, 1)}
        return next(code for code in ("000000", "111111", "222222", "333333") if code not in right)


@pytest.fixture
def phone(monkeypatch: pytest.MonkeyPatch) -> Phone:
    phone = Phone()
    monkeypatch.setattr(totp, "time", SimpleNamespace(time=phone.time))
    return phone


@pytest.fixture
def demanding(agency: Agency) -> Agency:
    """An agency that demands the second factor of everybody."""
    Agency.objects.filter(pk=agency.pk).update(second_factor=SecondFactor.ALL)
    return agency


def send_code(page: Page, code: str) -> None:
    page.get_by_label("验证码").fill(code)
    page.get_by_label("验证码").press("Enter")


def expect_the_board(page: Page, who: str) -> None:
    expect(page.get_by_role("heading", name="本月清卡")).to_be_visible()
    expect(page.get_by_role("link", name=who)).to_be_visible()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="退出", exact=True).click()
    expect(page.get_by_role("button", name="登录")).to_be_visible()


def secret_on(page: Page) -> str:
    return page.locator("code").inner_text()


def test_an_invited_person_joins_sets_up_two_steps_and_signs_in_again_by_each(
    sign_in: SignIn, new_page: NewPage, phone: Phone, owner: Person
) -> None:
    owners = sign_in(owner)
    owners.goto("/members")
    owners.get_by_label("姓名", exact=True).fill("新会计")
    owners.get_by_role("button", name="生成邀请链接").click()
    link = owners.locator("pre").inner_text()
    owners.get_by_role("link", name="返回").click()
    owners.get_by_label("要求两步验证").select_option(label="全体人员")
    demand = owners.locator("form", has=owners.get_by_label("要求两步验证"))
    demand.get_by_role("button", name="更改").click()
    # It holds for whoever demanded it, too.
    expect(owners.get_by_role("heading", name="启用两步验证")).to_be_visible()

    page = new_page()
    page.goto(link)
    # What was typed stays when the passwords differ; the passwords themselves do not come back.
    username = f"new-{link[-8:]}"
    page.get_by_label("账号").fill(username)
    page.get_by_label("登录口令", exact=True).fill(PASSWORD)
    page.get_by_label("再输一遍新口令").fill("something else 7")
    page.get_by_role("button", name="加入").click()
    expect(page.get_by_text("两次输入的口令不一样")).to_be_visible()
    expect(page.get_by_label("账号")).to_have_value(username)
    for label in ("登录口令", "再输一遍新口令"):
        expect(page.get_by_label(label, exact=True)).to_have_value("")
        page.get_by_label(label, exact=True).fill(PASSWORD)
    page.get_by_role("button", name="加入").click()

    expect(page.get_by_text("您所在的机构要求两步验证")).to_be_visible()
    secret = secret_on(page)
    send_code(page, phone.wrong_code(secret))
    expect(page.get_by_text("验证码不对")).to_be_visible()
    assert secret_on(page) == secret  # the phone has it already
    send_code(page, phone.code(secret))
    spare = page.locator("pre").inner_text().split()
    assert len(spare) == 10
    page.get_by_role("link", name="已经收好").click()
    expect_the_board(page, "新会计")

    sign_out(page)
    send_password(page, username)
    send_code(page, phone.code(secret))
    expect_the_board(page, "新会计")

    sign_out(page)
    send_password(page, username)
    send_code(page, spare[0])
    expect_the_board(page, "新会计")
    page.goto("/account/codes")
    assert page.locator("pre").inner_text().split() == spare[1:]

    sign_out(page)
    send_password(page, username)
    send_code(page, spare[0])
    expect(page.get_by_text("验证码不对")).to_be_visible()


def test_a_wrong_code_is_refused_in_words_and_the_way_begun_goes_on(
    new_page: NewPage, phone: Phone, demanding: Agency, supervisor: Person
) -> None:
    totp.TOTP.activate(supervisor.user, TOTP_SECRET)
    page = new_page(width=390)
    page.goto("/audit?person=吴主管")
    send_password(page, supervisor.user.username)
    used = phone.code(TOTP_SECRET)
    for wrong in (phone.wrong_code(TOTP_SECRET), "not a code"):
        send_code(page, wrong)
        expect(page.get_by_text("验证码不对")).to_be_visible()
        expect(page.get_by_role("link", name="吴主管")).to_have_count(0)
    send_code(page, used)
    expect(page.get_by_role("heading", name="操作留痕")).to_be_visible()
    expect(page.get_by_label("办理人")).to_have_value("吴主管")

    # The same code does not open a second browser.
    other = new_page(width=390)
    other.goto("/login")
    send_password(other, supervisor.user.username)
    send_code(other, used)
    expect(other.get_by_text("刚刚用过")).to_be_visible()
